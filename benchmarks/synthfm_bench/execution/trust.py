"""Lists the code and files outside this package that a received run names."""

from pathlib import Path

from synthfm_bench.players import own_code
from synthfm_bench.suite import Choice, Data, DatasetData, FileData, Suite, SyntheticData
from synthfm_env.errors import InputError
from synthfm_env.printable import printable

_SHOWN = 3
_WEIGHTS = (".safetensors", ".pt", ".pth", ".onnx", ".toml")


def code_of(suite: Suite) -> list[str]:
    """Return the classes that the segmenters and clickers of a suite name, which playing it would import."""
    found = [("segmenter", choice) for choice in suite.segmenters] + [("clicker", choice) for choice in suite.clickers]
    return [f"{who} {name}" for who, choice in found for name in own_code(choice)]


def files_of(suite: Suite) -> list[str]:
    """Return the files and folders that a suite names, which playing it would open."""
    choices = [path for choice in (*suite.segmenters, *suite.clickers) for path in files_of_choice(choice)]
    return [*(path for data in suite.data for path in files_of_data(data)), *choices]


def files_of_choice(choice: Choice) -> list[str]:
    """Return the files that a segmenter or clicker names: weights."""
    named = (choice.use, *(value for value in choice.params.values() if isinstance(value, str)))
    return [f"file {name}" for name in named if Path(name).suffix in _WEIGHTS or "/" in name or "\\" in name]


def files_of_data(data: Data) -> list[str]:
    """Return the files and folders that a group of a suite names."""
    match data:
        case FileData():
            return [f"image {data.image}", f"label {data.label}"]
        case DatasetData():
            return [f"data set {data.path}"]
        case SyntheticData():
            return [f"recipe {data.recipe}"] if Path(data.recipe).suffix else []
        case _:
            return []


def check_trusted(suite: Suite, folder: Path, command: str, *, code_only: bool = False) -> None:
    """Refuse to import what a run's ``run.json`` names, or to open it, without the user's consent.

    Args:
        suite: of the run.
        folder: of the run.
        command: what would do so, for the message.
        code_only: whether files may be opened.

    Raises:
        InputError: the run names code or files; nothing was imported or opened.
    """
    named = code_of(suite) + ([] if code_only else files_of(suite))
    if named:
        shown = ", ".join(printable(name) for name in named[:_SHOWN])
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise InputError(
            f"{printable(folder)}: its run.json names what is not part of this package ({shown}{more}); nothing of it "
            f"was imported or opened; if you trust who made the run, add --trust-plugins to {command}"
        )
