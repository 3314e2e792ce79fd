"""Write docs/envs/*.md, a page for each registered environment and one for the wrappers, from their docstrings.

Run ``python docs/make_env_pages.py`` after a docstring or a registered argument has changed.
"""

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from synthfm_env.envs import wrappers
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.registration import ENVS

PAGES = Path(__file__).parent / "envs"
SECTIONS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Information",
    "Arguments",
    "Vectorized environment",
    "Version History",
)
MERGED = {"Description", "Starting State", "Arguments"}
"""Sections in which a class adds to what ``PromptEnv`` says; of the others, the class's own word counts."""


def sections(kind: type) -> dict[str, str]:
    """Return the text under each heading of a class's docstring."""
    parts = re.split(r"^## (.+)$", inspect.getdoc(kind) or "", flags=re.MULTILINE)[1:]
    return {title: text.strip() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def page(env_id: str, entry_point: str, kwargs: dict[str, Any]) -> str:
    """Return the page of one environment, markdown."""
    module, _, name = entry_point.partition(":")
    kind = getattr(import_module(module), name)
    own, base = sections(kind), sections(PromptEnv)
    arguments = "".join(f", {key}={json.dumps(value)}" for key, value in kwargs.items())
    summary = (inspect.getdoc(kind) or "").splitlines()[0]
    registered = f" Registered with `{arguments.removeprefix(', ')}`." if arguments else ""
    lines = [
        f"# {env_id}",
        "<!-- Written by docs/make_env_pages.py from the docstrings: change those. -->",
        summary,
        f'Made by `gym.make("synthfm_env:{env_id}", ...)`, of the class `{module}.{name}`.{registered}',
    ]
    for title in SECTIONS:
        texts = [own.get(title), base[title]] if title in MERGED else [own.get(title, base[title])]
        lines += [f"## {title}", *(text for text in texts if text)]
    return "\n\n".join(lines) + "\n"


def wrapper_page() -> str:
    """Return the page of the wrappers, markdown."""
    lines = [
        "# Wrappers",
        "<!-- Written by docs/make_env_pages.py from the docstrings: change those. -->",
        inspect.getdoc(wrappers) or "",
        """```python
import gymnasium as gym
from synthfm_env.envs.wrappers import FlatAction, SliceLockedAction

env = FlatAction(SliceLockedAction(gym.make("synthfm_env:SynthFM/Synthetic3D-v0")))
```""",
    ]
    for name in wrappers.__all__:
        kind = getattr(wrappers, name)
        text, _, raises = (inspect.getdoc(kind) or "").partition("\n\nRaises:\n")
        text, _, arguments = text.partition("\n\nArgs:\n")
        parameters = inspect.signature(kind).parameters.values()
        call = ", ".join(str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters)
        lines += [f"## {name}", f"`{name}({call})`", text]
        if arguments:
            items = re.sub(r"^ {8,}", "  ", arguments, flags=re.MULTILINE)
            lines.append(re.sub(r"^ {4}(\w+):", r"- `\1`:", items, flags=re.MULTILINE))
        lines.append("Raises `InputError`: " + " ".join(raises.split()).removeprefix("InputError: "))
    return "\n\n".join(lines) + "\n"


def env_pages() -> dict[Path, str]:
    """Return the path and the text of every environment's page."""
    return {
        PAGES / f"{re.sub(r'^SynthFM/|-v[0-9]+$', '', env_id).lower()}.md": page(env_id, *registered)
        for env_id, registered in ENVS.items()
    }


def pages() -> dict[Path, str]:
    """Return the path and the text of every page."""
    return {**env_pages(), PAGES / "wrappers.md": wrapper_page()}


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)
