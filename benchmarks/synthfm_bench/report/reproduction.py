"""Commands that make a run again, and what its results depend on."""

import shlex
from dataclasses import dataclass
from typing import Any

from synthfm_bench.execution.trust import code_of, files_of
from synthfm_bench.results.run_directory import Run
from synthfm_bench.suite import Suite, load_suite, with_choices
from synthfm_env.errors import InputError


@dataclass(frozen=True)
class ReproductionSteps:
    """Commands and facts to make one run again.

    Attributes:
        run: its folder's name.
        name: of its suite.
        commands: for a shell.
        facts: what the results depend on, name and value.
        suite: as it was played, TOML that `synthfm bench` reads.
    """

    run: str
    name: str
    commands: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    suite: str


def reproduction_steps(run: Run) -> ReproductionSteps:
    """Return the commands and facts to make a run again."""
    about = run.about
    import tomli_w  # of the extra `report`

    suite = tomli_w.dumps(_without_none(run.suite.model_dump(mode="json")))
    trust = ["--trust-plugins"] if code_of(run.suite) or files_of(run.suite) else []
    commands = (_bench(run.suite), shlex.join(["synthfm", "verify", str(run.folder), *trust]))
    facts = [*_facts(about), ("seed", str(run.suite.seed))]
    return ReproductionSteps(run.folder.name, run.suite.name, commands, tuple(facts), suite)


def _bench(played: Suite) -> str:
    """Return the command that plays the same: a suite of the package with what was chosen, or a file of its own."""
    try:
        packaged = load_suite(played.name)
    except InputError:
        return f"synthfm bench {played.name}.toml"
    options: list[str] = []
    chosen: dict[str, Any] = {}
    if played.segmenters != packaged.segmenters:
        chosen["segmenters"] = _names(played, "segmenters")
        options += [f"--segmenter {shlex.quote(name)}" for name in chosen["segmenters"]]
    if played.clickers != packaged.clickers:
        chosen["clickers"] = _names(played, "clickers")
        options += [f"--clicker {shlex.quote(name)}" for name in chosen["clickers"]]
    if played.seed != packaged.seed:
        chosen["seed"] = played.seed
        options.append(f"--seed {played.seed}")
    if with_choices(packaged, **chosen) != played:
        return f"synthfm bench {played.name}.toml"
    return " ".join(["synthfm bench", played.name, *options])


def _without_none(value: Any) -> Any:
    """Return a suite without its None values, which TOML cannot hold."""
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value


def _names(suite: Suite, kind: str) -> tuple[str, ...]:
    """Return the segmenters or clickers of a suite, each as ``NAME=USE`` if the suite renames it."""
    return tuple(f"{one.name}={one.use}" if one.name else one.use for one in getattr(suite, kind))


def _facts(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of a run's table of facts: name and value."""
    facts = [
        ("results hash", str(about.get("results_hash", "none: the run is not finished"))),
        ("started", str(about.get("started", "unknown"))),
        ("git commit", str(about.get("git_commit") or "outside git")),
        ("versions", ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())),
        ("machine", ", ".join(f"{name} {value}" for name, value in about.get("machine", {}).items() if value)),
        ("workers", str(about.get("workers", "unknown"))),
    ]
    facts += [
        (f"segmenter {name}", f"weights {found.get('weights_sha256') or 'none'}, on {found.get('device')}")
        for name, found in about.get("segmenters", {}).items()
    ]
    facts += [
        (f"clicker {name}", f"hash {found.get('protocol_hash')}") for name, found in about.get("clickers", {}).items()
    ]
    return facts + [("note", str(note)) for note in about.get("notes", [])]
