"""Defines the figures of a board, each computed for an episode and averaged within a case."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_env.plural import plural

DICE_AT = (1, 3, 5, 10)
PRIMARY_AT = 5  # clicks of the primary figure, by which rows are ranked
TARGETS = (0.80, 0.85, 0.90)  # Dice values for the number of clicks


@dataclass(frozen=True)
class Column:
    """One column of a board.

    Attributes:
        key: in CSV files.
        name: on the board.
        of: returns the figure of an episode, or None.
        higher: whether larger values are better.
        unit: "score" in [0, 1], "share" shown in per cent, "mm".
        meaning: one sentence for readers.
    """

    key: str
    name: str
    of: Callable[[EpisodeResult], float | None]
    higher: bool
    unit: Literal["score", "share", "mm"]
    meaning: str

    def show(self, value: float | None) -> str:
        """Return a value as the board shows it, "-" for none."""
        if value is None:
            return "-"
        return {"score": f"{value:.3f}", "share": f"{100 * value:.0f}", "mm": f"{value:.1f}"}[self.unit]


def dice_at(clicks: int) -> Column:
    """Return Dice after so many clicks."""
    return Column(
        f"dice@{clicks}",
        f"Dice@{clicks}",
        lambda episode: float(episode.dice[clicks - 1]),
        True,
        "score",
        f"Dice after {plural(clicks, 'click')}; an episode that ended earlier keeps its last score.",
    )


def dice_columns(budget: int) -> list[Column]:
    """Return Dice after the clicks of ``DICE_AT`` below the budget, and after the last one."""
    return [dice_at(clicks) for clicks in (*(n for n in DICE_AT if n < budget), budget)]


def primary_column(budget: int) -> Column:
    """Return the figure that boards are ranked and compared by, fixed before anything is played."""
    return dice_at(min(PRIMARY_AT, budget))


NAUC = Column(
    "nauc",
    "nAUC",
    lambda episode: episode.nauc,
    True,
    "score",
    "Area under the Dice curve over all clicks, divided by its greatest possible value.",
)


def other_columns(tolerance_mm: float | None) -> list[Column]:
    """Return the figures beside Dice: of the surfaces, and of how a segmenter takes clicks.

    Args:
        tolerance_mm: of the normalised surface Dice; None if episodes differ in it.
    """
    tolerance = "" if tolerance_mm is None else f"@{tolerance_mm:g}mm"
    return [
        Column(
            "iou",
            "IoU",
            lambda episode: float(episode.iou[-1]),
            True,
            "score",
            "Intersection over union of mask and truth after the last click.",
        ),
        Column(
            "nsd",
            f"NSD{tolerance}",
            lambda episode: float(episode.nsd[-1]),
            True,
            "score",
            "Normalised surface Dice after the last click: share of both surfaces within the tolerance.",
        ),
        Column(
            "hd95_mm",
            "HD95 mm",
            lambda episode: episode.hd95_mm,
            False,
            "mm",
            "95th percentile of the surface distances after the last click; episodes without a mask have none.",
        ),
        Column(
            "worst_drop",
            "worst drop",
            lambda episode: episode.worst_drop,
            False,
            "score",
            "Largest drop of Dice by a single click of an episode.",
        ),
        Column(
            "compliance",
            "obeyed %",
            lambda episode: episode.compliance,
            True,
            "share",
            "Share of the clicks whose voxel got the label of the click at once.",
        ),
    ]
