"""Reads TOML and JSON files; whatever is wrong with one is an InputError of one line."""

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthfm_env.errors import InputError
from synthfm_env.printable import printable

_MOST_BYTES = 64 << 20


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        what: begins messages, for example "suite mine.toml".

    Raises:
        InputError: the file cannot be read, is larger than 64 MiB, is not UTF-8 or not TOML, or is nested too deeply.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.toml"
        >>> _ = file.write_text("seed = 3")
        >>> read_toml(file, "recipe a.toml")
        {'seed': 3}
    """
    fields: dict[str, Any] = _read(path, what, "TOML", tomllib.loads)
    return fields


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file; see ``read_toml``.

    Raises:
        InputError: the file cannot be read, is larger than 64 MiB, is not UTF-8 or not JSON, or is nested too deeply.
    """
    return _read(path, what, "JSON", json.loads)


def read_json_table(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON file that holds an object; see ``read_json``.

    Raises:
        InputError: as ``read_json``, and if the file holds something else than an object.
    """
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise InputError(f"{printable(what)}: expected a JSON object, found {type(content).__name__}")
    return content


def _read(path: Path, what: str, form: str, parse: Callable[[str], Any]) -> Any:
    """Read and parse a text file of at most ``_MOST_BYTES``; every failure is an InputError of one line."""
    name = printable(what)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise InputError(f"{name}: is no file")
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{name}: holds more than {_MOST_BYTES >> 20} MiB, so it is not read")
        return parse(path.read_text(encoding="utf-8"))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: is not UTF-8 text") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deeply") from None
    except ValueError as error:  # a decode error of either form, or a path with a null character
        raise InputError(f"{name}: is not valid {form} ({printable(error)})") from None
