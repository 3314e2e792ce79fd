"""Suites: which data, segmenters and clickers a benchmark plays, as validated TOML."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthfm_env.errors import InputError, unknown_name

SUITES = Path(__file__).parent / "suites"
Name = Annotated[str, Field(min_length=1)]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return values


Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]
Structures = Annotated[tuple[int | str, ...], AfterValidator(_distinct)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticData(_Strict):
    """Fresh volumes from a synthetic env, one structure each, case ``i`` from a seed of its own.

    Attributes:
        kind: "synthetic".
        name: names the group on the board.
        env: a registered id.
        shape: grid of every volume, (z, y, x).
        recipe: the generator's recipe.
        cases: how many volumes.
    """

    kind: Literal["synthetic"]
    name: Name
    env: Name = "SynthFM/Synthetic3D-v0"
    shape: tuple[int, int, int]
    recipe: Name = "any"
    cases: int = Field(ge=1)


class BundledData(_Strict):
    """A real volume that an installed package carries; skipped with a note where that package is missing.

    Attributes:
        kind: "bundled".
        name: names the group on the board.
        volume: a name that ``synthfm_env.volumes.bundled_volume`` knows.
        structures: label ids or names; empty means every structure.
    """

    kind: Literal["bundled"]
    name: Name
    volume: Name
    structures: Structures = ()


class FileData(_Strict):
    """One volume of the user's own: an image and a label on the same grid.

    Attributes:
        kind: "files".
        name: names the group on the board.
        image: path of the image.
        label: path of the label map.
        structures: label ids or names; empty means every structure.
        modality: one of ``synthfm_env.volumes.MODALITIES``; None leaves it to the reader.
    """

    kind: Literal["files"]
    name: Name
    image: Path
    label: Path
    structures: Structures = ()
    modality: str | None = None


Data = Annotated[SyntheticData | BundledData | FileData, Field(discriminator="kind")]
_KINDS: dict[str, type[_Strict]] = {"synthetic": SyntheticData, "bundled": BundledData, "files": FileData}


class Suite(_Strict):
    """What a benchmark plays: every clicker with every segmenter on every structure of every case.

    Attributes:
        name: names the run's folder.
        description: one line for ``synthfm list suites``.
        segmenters: names or checkpoint paths.
        clickers: names.
        clicks: click budget of an episode.
        seed: all case seeds and clicker seeds follow from it.
        data: the groups of the board, in its order.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    description: str = ""
    segmenters: Names
    clickers: Names
    clicks: int = Field(default=10, ge=1)
    seed: int = Field(default=0, ge=0)
    data: tuple[Data, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _groups_are_distinct(self) -> Self:
        _distinct(tuple(group.name for group in self.data))
        return self


def list_suites() -> dict[str, str]:
    """Return the description of each suite that comes with the package."""
    return {path.stem: load_suite(path.stem).description for path in sorted(SUITES.glob("*.toml"))}


def load_suite(name_or_path: str) -> Suite:
    """Read a suite by name, or from a TOML file.

    Raises:
        InputError: no such suite, bad TOML, an unknown key (with the near match), a value out of range.
    """
    known = {path.stem: path for path in SUITES.glob("*.toml")}
    path = known.get(name_or_path, Path(name_or_path))
    if path.suffix != ".toml":
        raise unknown_name("suite", name_or_path, known)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"suite {path}: cannot be read ({error.strerror}); `synthfm list suites` shows the names"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"suite {path}: not valid TOML: {error}") from None
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise InputError(f"suite {path}: {_explain(error)}") from None


def with_choices(
    suite: Suite,
    *,
    segmenters: tuple[str, ...] = (),
    clickers: tuple[str, ...] = (),
    seed: int | None = None,
    data: FileData | None = None,
) -> Suite:
    """Return the suite with what the user chose instead of its own; empty and None keep the suite's.

    Raises:
        InputError: a name stands there twice, or the seed is negative.
    """
    chosen = {"segmenters": segmenters, "clickers": clickers, "seed": seed, "data": (data,) if data else ()}
    given = {key: value for key, value in chosen.items() if value not in ((), None)}
    fields = {key: getattr(suite, key) for key in Suite.model_fields}
    try:
        return Suite.model_validate(fields | given)
    except ValidationError as error:
        raise InputError(f"suite {suite.name}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """Return one complaint as one line: where, what, and the near match of an unknown key."""
    complaints = error.errors(include_url=False)
    # An unknown key comes first: the one that it stands for may be missing.
    first = min(complaints, key=lambda complaint: complaint["type"] != "extra_forbidden")
    where, *rest = first["loc"] or ("",)
    model: type[_Strict] = Suite
    if where == "data" and rest:
        index, *rest = rest
        where = f"data[{index}]"
        if rest:  # the tag of the union, which is no key of the file
            model = _KINDS[str(rest.pop(0))]
    parts = [str(where), *(str(part) for part in rest if not isinstance(part, int))]
    if first["type"] == "extra_forbidden":
        return f"{'.'.join(parts[:-1]) or 'top level'}: {unknown_name('key', parts[-1], model.model_fields)}"
    too_short = first["type"] == "missing" and isinstance(first["loc"][-1], int)
    message = "too few values" if too_short else first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in ("missing", "value_error") else f", got {str(first['input'])[:80]!r}"
    return f"{'.'.join(filter(None, parts)) or 'top level'}: {message[:1].lower()}{message[1:]}{got}"
