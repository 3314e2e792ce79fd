"""Write docs/protocols/NAME.md, a page for each clicker, from its docstring.

Run ``python docs/protocols/make_pages.py`` after a docstring or a clicker has changed.
"""

import inspect
import re
from pathlib import Path

from synthfm_agents import Clicker, ClickProtocol, list_clickers, make_clicker

PAGES = Path(__file__).parent


def page(name: str) -> str:
    """Return the page of one clicker, markdown."""
    clicker = make_clicker(name)
    text, _, raises = _markdown(inspect.getdoc(type(clicker)) or "").partition("\n\nRaises:\n")
    text, _, arguments = text.partition("\n\nArgs:\n")
    parts = [
        f"# {name}",
        "<!-- Written by docs/protocols/make_pages.py from the docstring: change that. -->",
        text,
        "## Use",
        f"`make_clicker({name!r}{_parameters(clicker)})`; `clicker.reset(seed)` begins an episode.".replace("'", '"'),
    ]
    if clicker.oracle:
        parts[-1] += " It is an oracle: the environment must be made with `reveal_truth=True`."
    if arguments:
        items = re.sub(r"^ {8,}", "  ", arguments, flags=re.MULTILINE)
        parts.append(re.sub(r"^ {4}(\w+):", r"- `\1`:", items, flags=re.MULTILINE))
    if raises:
        parts.append("Raises `InputError`: " + " ".join(raises.split()).removeprefix("InputError: "))
    if isinstance(clicker, ClickProtocol):
        parts.append(f"Protocol hash with default parameters: `{clicker.protocol_hash}`")
    return "\n\n".join(parts) + "\n"


def pages() -> dict[Path, str]:
    """Return the path and the text of every page."""
    return {PAGES / f"{name}.md": page(name) for name in list_clickers()}


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _parameters(clicker: Clicker) -> str:
    parameters = inspect.signature(type(clicker)).parameters.values()
    return "".join(f", {p.name}={p.default!r}" for p in parameters if p.default is not p.empty)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
