"""``synthfm list``: list what can be named."""

import inspect
import json
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """Kinds of things that ``synthfm list`` lists."""

    MODELS = "models"
    CLICKERS = "clickers"
    PROTOCOLS = "protocols"
    SUITES = "suites"
    LAYOUTS = "layouts"
    ENVS = "envs"


def list_(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="models, clickers, protocols, suites, layouts or envs")],
) -> None:
    """List what can be named: models, clickers, protocols, suites, data-set layouts, envs."""
    names = _LISTS[kind]()
    width = max(map(len, names))
    for name, description in names.items():
        typer.echo(f"{name:{width}}  {description}")


def _suites() -> dict[str, str]:
    from synthfm_bench.suite import list_suites

    return list_suites()


def _layouts() -> dict[str, str]:
    from synthfm_env.volumes.datasets import list_layouts

    return list_layouts()


def _models() -> dict[str, str]:
    from synthfm_env.segmenters import list_segmenters

    return list_segmenters()


def _clickers() -> dict[str, str]:
    from synthfm_agents import list_clickers

    return list_clickers()


def _protocols() -> dict[str, str]:
    """Return the click protocols, each with the start of its hash: figures taken with one hash compare."""
    from synthfm_agents import list_protocols

    described = _clickers()
    return {name: f"[{found[:12]}] {described[name]}" for name, found in list_protocols().items()}


def _envs() -> dict[str, str]:
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
    Kind.MODELS: _models,
    Kind.CLICKERS: _clickers,
    Kind.PROTOCOLS: _protocols,
    Kind.SUITES: _suites,
    Kind.LAYOUTS: _layouts,
    Kind.ENVS: _envs,
}
