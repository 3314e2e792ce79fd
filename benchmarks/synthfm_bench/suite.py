"""Defines and reads suites: the data, segmenters and clickers of a benchmark, as validated TOML."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from synthfm_env.envs.start_prompt import Start
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import printable
from synthfm_env.text_files import read_toml
from synthfm_env.volumes import MODALITIES

SUITES = Path(__file__).parent / "suites"

MOST_CLICKS = 10_000
"""Largest click budget of an episode."""

MOST_CASES = 100_000
"""Most synthetic volumes of a group."""

_MOST_PARAMS = 20_000  # characters of JSON


def _readable(text: str) -> str:
    """Check that a name has printable characters only."""
    if not text.isprintable():
        raise ValueError(f"expected printable characters, got {printable(text)!r}")
    return text


def _no_null(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path holds no null character")
    return path


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Check that parameters can be written as JSON: finite numbers, text, lists and tables."""
    try:
        text = json.dumps(params, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected finite numbers, text, true, false, lists and tables ({error})") from None
    if len(text) > _MOST_PARAMS:
        raise ValueError(f"longer than {_MOST_PARAMS} characters")
    return params


def _known_modality(name: str | None) -> str | None:
    if name is not None and name not in MODALITIES:
        raise ValueError(str(unknown_name("modality", name, MODALITIES)))
    return name


Name = Annotated[str, Field(min_length=1, max_length=400), AfterValidator(_readable)]
FilePath = Annotated[Path, AfterValidator(_no_null)]
Params = Annotated[dict[str, Any], AfterValidator(_plain)]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice")
    return values


Structures = Annotated[tuple[int | str, ...], AfterValidator(_distinct)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Strict):
    """A segmenter or a clicker. In TOML a string stands for one without parameters.

    Attributes:
        use: a name for ``make_segmenter`` or ``make_clicker``, a path, or ``package.module:Class``.
        name: on the board and in the records; by default ``use``.
        params: arguments. A clicker with an argument ``segmenter`` gets the episode's segmenter, unless one is named
            here.
    """

    use: Name
    name: Annotated[str, Field(pattern=r"^[^/\n]*$", max_length=200), AfterValidator(_readable)] = ""
    params: Params = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name on the board."""
        return self.name or self.use

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.name or self.params else self.use


def _spelled_out(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


def _labels_differ(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    _distinct(tuple(choice.label for choice in choices))
    return choices


Choices = Annotated[
    tuple[Annotated[Choice, BeforeValidator(_spelled_out)], ...], Field(min_length=1), AfterValidator(_labels_differ)
]


class SyntheticData(_Strict):
    """Volumes from a synthetic env, each with its own seed and one structure.

    Attributes:
        kind: "synthetic".
        name: of the group on the board.
        env: a registered id.
        shape: grid of every volume, (z, y, x).
        recipe: the generator's recipe.
        cases: number of volumes.
    """

    kind: Literal["synthetic"]
    name: Name
    env: Name = "SynthFM/Synthetic3D-v0"
    shape: tuple[int, int, int]
    recipe: Name = "any"
    cases: int = Field(ge=1, le=MOST_CASES)


class _RealData(_Strict):
    """Options of real volumes.

    Attributes:
        structures: label ids or names; empty for every structure.
        slices: play slices along z as images, with the grey levels of the volume. Of the slices with at least
            ``slice_pixels`` of a structure: "each" one, the one with its "largest" area, or the "middle" one. "clips"
            plays ``clip_slices`` neighbouring slices as a volume, if one of them has enough pixels. None plays volumes.
        slice_pixels: fewest pixels of a structure in a slice. The default is the threshold in MedSAM's preprocessing
            (``pre_CT_MR.py``).
        most_slices: with "each", the largest number of slices for a structure, at equal distances; None for all.
        clip_slices: number of slices of "clips". The first clip begins with the volume, the last one ends with it.
    """

    structures: Structures = ()
    slices: Literal["each", "largest", "middle", "clips"] | None = None
    slice_pixels: int = Field(default=100, ge=1)
    most_slices: int | None = Field(default=None, ge=1)
    clip_slices: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _only_with_slices(self) -> Self:
        if self.most_slices is not None and self.slices != "each":
            raise ValueError(f'most_slices = {self.most_slices} needs slices = "each"')
        if (self.clip_slices is None) == (self.slices == "clips"):
            raise ValueError('slices = "clips" and clip_slices need each other')
        return self


class BundledData(_RealData):
    """A real volume in an installed package. If that package is missing, the group is left out with a note.

    Attributes:
        kind: "bundled".
        name: of the group on the board.
        volume: a name for ``synthfm_env.volumes.bundled_volume``.
    """

    kind: Literal["bundled"]
    name: Name
    volume: Name


class FileData(_RealData):
    """One volume of the user: an image and a label on the same grid.

    Attributes:
        kind: "files".
        name: of the group on the board.
        image: path of the image.
        label: path of the label map.
        modality: one of ``synthfm_env.volumes.MODALITIES``; None guesses it, see ``load_volume``.
    """

    kind: Literal["files"]
    name: Name
    image: FilePath
    label: FilePath
    modality: Annotated[str | None, AfterValidator(_known_modality)] = None


class Split(_Strict):
    """One side of a random split of a data set's patients, the same on every machine; see ``train_test_split``.

    Attributes:
        side: "train" or "test".
        train: share of the patients in the training set.
        seed: of the shuffle.
    """

    side: Literal["train", "test"] = "test"
    train: float = Field(default=0.8, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**63)


class DatasetData(_RealData):
    """Cases of a data set as its host ships it, or of a folder of the user.

    Attributes:
        kind: "dataset".
        name: of the group on the board.
        layout: a name from ``synthfm_env.volumes.datasets``.
        path: its folder, relative to that of ``--data``.
        part: one of the layout's parts, for example a modality or a view; None if it has only one.
        cases: largest number of patients, chosen at equal distances; None for all.
        images: largest number of images of each patient, chosen at equal distances; None for all.
        split: patients of one side of a seeded split, before ``cases`` are chosen; None for all.
        tolerance_mm: replaces the suite's.
    """

    kind: Literal["dataset"]
    name: Name
    layout: Name
    path: FilePath = Path(".")
    part: Name | None = None
    split: Split | None = None
    cases: int | None = Field(default=None, ge=1)
    images: int | None = Field(default=None, ge=1)
    tolerance_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)


Data = Annotated[SyntheticData | BundledData | FileData | DatasetData, Field(discriminator="kind")]
_KINDS: dict[str, type[_Strict]] = {
    "synthetic": SyntheticData,
    "bundled": BundledData,
    "files": FileData,
    "dataset": DatasetData,
}


class Suite(_Strict):
    """A benchmark: every clicker plays with every segmenter on every structure of every case.

    Attributes:
        name: begins the name of a run's folder.
        description: one line for ``synthfm list suites``.
        segmenters: names, checkpoint paths, or tables of ``use``, ``name`` and ``params``.
        clickers: the same.
        clicks: click budget of an episode.
        start: prompt that every episode begins with, which does not count as a click: "empty", "click", "box" or
            "mask".
        start_protocol: the rule that draws it, None for the kind's first; see ``synthfm_env.envs.start_prompt``.
        start_dice: Dice of the mask of ``start = "mask"`` with the truth.
        seed: all case seeds and clicker seeds follow from it.
        targets: Dice values for the number of clicks (NoC).
        tolerance_mm: of the normalised surface Dice.
        time_limit_s: an episode fails if a click, or opening an image, takes longer.
        memory_limit_mib: an episode fails if code of a segmenter or clicker allocates more MiB in a worker than this,
            beyond the worker's memory at its start. None: most of the free memory. Linux only.
        data: the groups, in the board's order.
    """

    name: str = Field(pattern=r"^[\w.-]+$", max_length=100)
    description: Annotated[str, AfterValidator(_readable)] = ""
    segmenters: Choices
    clickers: Choices
    clicks: int = Field(default=10, ge=1, le=MOST_CLICKS)
    start: Literal["empty", "click", "box", "mask"] = "empty"
    start_protocol: Name | None = None
    start_dice: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    targets: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_distinct)] = (0.8, 0.85, 0.9)
    tolerance_mm: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    time_limit_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    memory_limit_mib: int | None = Field(default=None, ge=1, le=2**30)
    data: tuple[Data, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _groups_are_distinct(self) -> Self:
        _distinct(tuple(group.name for group in self.data))
        return self

    @model_validator(mode="after")
    def _start_is_known(self) -> Self:
        try:
            Start(self.start, self.start_protocol, self.start_dice)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def start_options(self) -> dict[str, Any]:
        """The arguments of an env that set its start prompt; none for an empty start."""
        if self.start == "empty":
            return {}
        return {"start": self.start, "start_protocol": self.start_protocol, "start_dice": self.start_dice}


def tolerance_of(suite: Suite, data: Data) -> float:
    """Return the tolerance of the normalised surface Dice in a group, in mm."""
    own = data.tolerance_mm if isinstance(data, DatasetData) else None
    return suite.tolerance_mm if own is None else own


def list_suites() -> dict[str, str]:
    """Return the description of each packaged suite.

    Example:
        >>> "quick" in list_suites()
        True
    """
    return {path.stem: load_suite(path.stem).description for path in sorted(SUITES.glob("*.toml"))}


def own_volume(image: Path, label: Path, structures: tuple[str, ...] = (), modality: str | None = None) -> FileData:
    """Return one volume of the user as the data of a suite.

    Raises:
        InputError: a structure is given twice, or the modality is unknown.
    """
    fields = {"kind": "files", "name": "own volume", "image": image, "label": label}
    try:
        return FileData.model_validate({**fields, "structures": structures, "modality": modality})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        raise InputError(f"{where}: {printable(first['msg'].removeprefix('Value error, '))}") from None


def load_suite(name_or_path: str) -> Suite:
    """Read a suite by name, or from a TOML file.

    Raises:
        InputError: the suite does not exist, the TOML is invalid, a key is unknown, or a value is out of range.

    Example:
        >>> load_suite("quick").clicks
        10
    """
    known = {path.stem: path for path in SUITES.glob("*.toml")}
    path = known.get(name_or_path, Path(name_or_path))
    if path.suffix != ".toml":
        raise unknown_name("suite", name_or_path, known)
    content = read_toml(path, f"suite {path}")
    return parse_suite(content, str(path))


def parse_suite(content: dict[str, Any], where: str) -> Suite:
    """Return the suite of a parsed TOML or JSON table, for example from ``run.json``.

    Raises:
        InputError: a key is unknown (the message has near matches), or a value is out of range.
    """
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise InputError(f"suite {printable(where)}: {printable(_explain(error), 1000)}") from None


def with_choices(
    suite: Suite,
    *,
    segmenters: tuple[str, ...] = (),
    clickers: tuple[str, ...] = (),
    seed: int | None = None,
    data: FileData | None = None,
    root: Path | None = None,
    cases: int | None = None,
    time_limit_s: float | None = None,
    memory_limit_mib: int | None = None,
) -> Suite:
    """Return a suite with some values replaced; empty arguments and None keep the suite's.

    Args:
        suite: the suite.
        segmenters: names, paths, or ``LABEL=NAME`` to name them on the board.
        clickers: the same.
        seed: of the suite.
        data: one volume instead of the suite's data.
        root: folder that the paths of data sets are relative to; by default the current folder.
        cases: largest number of cases in each group.
        time_limit_s: for a click.
        memory_limit_mib: for a worker.

    Raises:
        InputError: a name is given twice, a value is out of range, or ``root`` has no use in this suite.
    """
    groups = (data,) if data else suite.data
    if root is not None and not any(isinstance(group, DatasetData) for group in groups):
        raise InputError(f"--data {root}: suite {suite.name} plays no data set; try the suite `folder`")
    here = (root or Path()).absolute()
    placed = [
        group.model_copy(update={"path": here / group.path}) if isinstance(group, DatasetData) else group
        for group in groups
    ]
    chosen = {
        "segmenters": tuple(map(_named, segmenters)),
        "clickers": tuple(map(_named, clickers)),
        "seed": seed,
        "time_limit_s": time_limit_s,
        "memory_limit_mib": memory_limit_mib,
    }
    given = {key: value for key, value in chosen.items() if value not in ((), None)}
    fields: dict[str, Any] = {key: getattr(suite, key) for key in Suite.model_fields}
    fields |= given | {"data": tuple(_fewer(group, cases) for group in placed)}
    if data:
        fields["description"] = f"one volume of your own: {printable(data.image.name)}"
    return parse_suite(fields, suite.name)


def _named(text: str) -> dict[str, str]:
    """Read ``LABEL=NAME``, or a bare name."""
    label, equals, use = text.partition("=")
    return {"use": use, "name": label} if equals else {"use": text}


def _fewer(group: Data, cases: int | None) -> Data:
    if cases is None or not isinstance(group, SyntheticData | DatasetData):
        return group
    return group.model_copy(update={"cases": min(cases, group.cases or cases)})


def _explain(error: ValidationError) -> str:
    """Return the most useful of the errors as one line: the key, the fault, and near matches of an unknown key."""
    complaints = error.errors(include_url=False)
    # Unknown keys first, because a misspelt key is also reported as a missing one.
    first = min(complaints, key=lambda complaint: complaint["type"] != "extra_forbidden")
    where, *rest = first["loc"] or ("",)
    model: type[_Strict] = Suite
    if where == "data" and rest:
        index, *rest = rest
        where = f"data[{index}]"
        if rest:  # the tag of the union, which is not a key of the file
            model = _KINDS[str(rest.pop(0))]
    if where in ("segmenters", "clickers") and rest:
        index, *rest = rest
        where, model = f"{where}[{index}]", Choice
    parts = [str(where), *(str(part) for part in rest if not isinstance(part, int))]
    if first["type"] == "extra_forbidden":
        return f"{'.'.join(parts[:-1]) or 'top level'}: {unknown_name('key', parts[-1], model.model_fields)}"
    too_short = first["type"] == "missing" and isinstance(first["loc"][-1], int)
    message = "too few values" if too_short else first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in ("missing", "value_error") else f", got {str(first['input'])[:80]!r}"
    return f"{'.'.join(filter(None, parts)) or 'top level'}: {message[:1].lower()}{message[1:]}{got}"
