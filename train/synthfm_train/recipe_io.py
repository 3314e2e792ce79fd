"""Reads recipes: packaged or own TOML files, changes from the command line, and checked fields."""

import os
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import printable
from synthfm_env.text_files import read_toml

_Kind = TypeVar("_Kind", bound=BaseModel)

Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""A seed of a recipe; each gives a range of seeds for volumes, which must fit into 64 bits."""


class Strict(BaseModel):
    """Fields that are checked, none unknown, none changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def list_recipes() -> dict[str, Path]:
    """Return the packaged recipes by name."""
    folder = files("synthfm_train") / "recipes"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.toml"))}


def read_fields(name_or_path: str, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a recipe of any kind, unchecked; raises InputError if they cannot be read."""
    data = _read(name_or_path)
    for override in overrides:
        _apply(data, override)
    return data


def validated(
    kind: type[_Kind],
    data: dict[str, Any],
    name_or_path: str,
    lists: dict[str, type[BaseModel]],
    tables: dict[str, list[str]],
) -> _Kind:
    """Return a recipe of checked fields.

    Args:
        kind: of recipe.
        data: its fields.
        name_or_path: where they are from.
        lists: fields that are lists of tables, and the type of each.
        tables: fields that are tables, and their keys.

    Raises:
        InputError: a key or value is not a recipe's; an unknown key is reported with its near matches.
    """
    try:
        _check_keys(kind, data, lists, tables)
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if not _is_a_type(part))
        reason = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise InputError(f"recipe {name_or_path!r}: {where + ': ' if where else ''}{reason}{given}") from None
    except InputError as error:
        raise InputError(f"recipe {name_or_path!r}: {error}") from None


def _is_a_type(part: int | str) -> bool:
    """Return True for the parts of a pydantic location that name a member of a union, not a field."""
    return part == "str" or "Architecture" in str(part)


def _read(name_or_path: str, extended: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return a recipe's fields; ``extends = "name"`` states only what differs from that one, ``data`` key by key.

    Args:
        name_or_path: a packaged name or a TOML file.
        extended: the files that led here by their ``extends``.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        packaged = list_recipes()
        if name_or_path not in packaged:
            raise unknown_name("recipe", name_or_path, packaged)
        path = packaged[name_or_path]
    if not os.path.exists(path):
        names = ", ".join(list_recipes())
        raise InputError(f"recipe {str(path)!r} does not exist; the packaged ones are {names}")
    if path.absolute() in extended:
        raise InputError(f"recipe {str(path)!r} extends itself; name another one in extends")
    own = read_toml(path, f"recipe {str(path)!r}")
    if "extends" not in own:
        return own
    base = _read(str(own.pop("extends")), (*extended, path.absolute()))
    data = own.get("data", {})
    if not isinstance(data, dict) or not isinstance(base.get("data", {}), dict):
        raise InputError(f"recipe {str(path)!r}: data: expected a table, got {data!r}")
    return {**base, **own, "data": {**base.get("data", {}), **data}}


def _check_keys(
    kind: type[BaseModel],
    data: dict[str, Any],
    lists: dict[str, type[BaseModel]],
    tables: dict[str, list[str]],
) -> None:
    """Refuse unknown keys at every level, with the near matches; all else is left to pydantic."""
    places: list[tuple[str, Any, list[str]]] = [
        ("recipe key", data, list(kind.model_fields)),
        *((f"key of {name}", data.get(name), known) for name, known in tables.items()),
    ]
    for key, part in lists.items():
        given = data.get(key)
        parts = given if isinstance(given, list) else []
        places += [(f"key of {key}.{i}", one, list(part.model_fields)) for i, one in enumerate(parts)]
    for what, given, known in places:
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                raise unknown_name(what, key, known)


def _apply(data: dict[str, Any], override: str) -> None:
    """Change a recipe's fields by one ``key=value``, for example ``phases.0.steps=20``."""
    key, sign, value = override.partition("=")
    if not sign:
        raise InputError(f"--set {override!r} is not of the form key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError) as error:
        if value.lstrip()[:1] in tuple("\"'[{"):
            raise InputError(f"--set {override!r}: the value is not valid TOML ({printable(error)})") from None
        parsed = value  # a text without quotes
    *parents, last = key.strip().split(".")
    target: Any = data
    try:
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if isinstance(target, list):
            target[int(last)] = parsed
        else:
            target[last] = parsed
    except (ValueError, IndexError, AttributeError, TypeError):
        raise InputError(
            f"--set {override!r}: the recipe has no place {key!r}; phases count from 0, as in phases.0.steps=20"
        ) from None
