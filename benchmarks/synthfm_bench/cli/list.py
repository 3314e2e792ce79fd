"""``synthfm list``: list the names of segmenters, clickers, protocols, suites, layouts and envs."""

import inspect
import json
from enum import StrEnum
from typing import Annotated

import typer

from synthfm_env.errors import InputError, unknown_name


class Kind(StrEnum):
    """Kinds of things that ``synthfm list`` lists."""

    SEGMENTERS = "segmenters"
    CLICKERS = "clickers"
    PROTOCOLS = "protocols"
    SUITES = "suites"
    LAYOUTS = "layouts"
    ENVS = "envs"


def list_(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="segmenters, clickers, protocols, suites, layouts or envs")
    ],
) -> None:
    """List the names of segmenters, clickers, protocols, suites, data-set layouts or envs.

    Segmenters that are not ready on this machine are listed with the package to install or the file to place.
    """
    if kind == "models":
        raise InputError("`synthfm list models` was removed: use `synthfm list segmenters`, which shows more")
    if kind not in list(Kind):
        raise unknown_name("kind of list", kind, list(Kind))
    names = _LISTS[Kind(kind)]()
    width = max(map(len, names))
    for name, description in names.items():
        typer.echo(f"{name:{width}}  {description}")


def _suites() -> dict[str, str]:
    from synthfm_bench.suite import list_suites

    return list_suites()


def _layouts() -> dict[str, str]:
    from synthfm_env.volumes.datasets import list_layouts

    return list_layouts()


def _segmenters() -> dict[str, str]:
    """Return the segmenters, each with "ready" or with what this machine lacks."""
    from synthfm_env.segmenters import list_segmenters, missing_for

    missing = {name: missing_for(name) for name in list_segmenters()}
    return {
        name: f"ready  {description}" if missing[name] is None else f"needs  {description}; {missing[name]}"
        for name, description in list_segmenters().items()
    }


def _clickers() -> dict[str, str]:
    from synthfm_agents import list_clickers

    return list_clickers()


def _protocols() -> dict[str, str]:
    """Return the click protocols, each with the start of its hash. Results with the same hash compare."""
    from synthfm_agents import list_protocols

    described = _clickers()
    return {name: f"[{found[:12]}] {described[name]}" for name, found in list_protocols().items()}


def _envs() -> dict[str, str]:
    """Return the first line of each environment's page, and its registered arguments."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    import synthfm_env  # noqa: F401 - registers the envs

    specs = [spec for env_id, spec in gym.registry.items() if env_id.startswith("SynthFM/")]
    described = {}
    for spec in specs:
        page = inspect.getdoc(load_env_creator(str(spec.entry_point))) or ""
        described[spec.id] = page.splitlines()[0] + (f" {json.dumps(spec.kwargs)}" if spec.kwargs else "")
    return described


_LISTS = {
    Kind.SEGMENTERS: _segmenters,
    Kind.CLICKERS: _clickers,
    Kind.PROTOCOLS: _protocols,
    Kind.SUITES: _suites,
    Kind.LAYOUTS: _layouts,
    Kind.ENVS: _envs,
}
