"""Compares people with click rules in the same states, and people with each other."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm_agents import make_clicker
from synthfm_agents.person import is_person
from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_bench.execution.resume import suite_of
from synthfm_bench.execution.trust import check_trusted
from synthfm_bench.plan import EpisodeSpec, make_plan
from synthfm_bench.play.person_episode import PersonPlayer, Thought
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.run_directory import read_run
from synthfm_env.errors import InputError
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click

_MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class Pair:
    """A person's click, and a rule's in the same state: the same truth, mask and earlier clicks.

    Attributes:
        person: the clicker's name.
        rule: the protocol's name.
        step: of the click, from 1.
        off_mm: from the rule's click to the person's, (z, y, x) in mm.
        same_sign: whether both are positive or both negative.
        slipped: whether the person's sign contradicts the truth at the voxel clicked.
    """

    person: str
    rule: str
    step: int
    off_mm: tuple[float, float, float]
    same_sign: bool
    slipped: bool

    @property
    def distance_mm(self) -> float:
        """Length of ``off_mm``."""
        return float(np.linalg.norm(self.off_mm))


@dataclass(frozen=True, slots=True)
class Fit:
    """Parameters of ``human-noise-v1``.

    Attributes:
        jitter_mm: from the median absolute deviation along all axes, over clicks of the same sign as RITM's. That a
            click is drawn again if it misses its error is not modelled, so it is a lower bound for small structures.
        wrong_sign: share of clicks whose sign contradicts the truth.
        clicks: how many it rests on.
    """

    jitter_mm: float
    wrong_sign: float
    clicks: int


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """A person's episode played again.

    Attributes:
        episode: as it was recorded.
        pairs: its clicks beside those of the rules.
        mask: bool (D, H, W), at its end.
    """

    episode: EpisodeResult
    pairs: tuple[Pair, ...]
    mask: NDArray[np.bool_]


def replay_beside(folder: Path, rules: Sequence[str], *, trusted: bool = False) -> list[Replayed]:
    """Replay a person's run, asking rules before each of their clicks where they would click.

    Args:
        folder: of the run.
        rules: click protocols; one that stops in a state gives no pair there.
        trusted: whether code and files that ``run.json`` names may be imported and opened.

    Raises:
        InputError: no run, no person in it, no click protocol of that name, or a run that names code or files and is
            not trusted.
    """
    recorded = {one.episode_id: one for one in read_run(folder).episodes if is_person(one.steps[0].protocol)}
    if not recorded:
        raise InputError(f"{folder}: holds no episode of a person; `synthfm play` makes some")
    clickers = {name: _protocol(name) for name in rules}
    suite = suite_of(folder)
    if not trusted:
        check_trusted(suite, folder, "this study")
    with closing(PersonPlayer(suite, "")) as player:
        return [
            _replayed(player, spec, recorded[spec.episode_id], clickers)
            for spec in make_plan(suite).specs
            if spec.episode_id in recorded
        ]


def fit_noise(pairs: Sequence[Pair]) -> Fit:
    """Fit ``human-noise-v1`` to people's clicks beside those of ``ritm-3d-v1``.

    Raises:
        InputError: no click to fit to.
    """
    beside = [pair for pair in pairs if pair.rule == "ritm-3d-v1"]
    alike = np.array([pair.off_mm for pair in beside if pair.same_sign])
    if not alike.size:
        raise InputError("no click of the same sign as ritm-3d-v1's, so there is nothing to fit")
    spread = float(np.median(np.abs(alike)) * _MAD_TO_SIGMA)
    return Fit(spread, float(np.mean([pair.slipped for pair in beside])), len(beside))


def agreement(replayed: Sequence[Replayed]) -> dict[tuple[str, str], list[float]]:
    """Return Dice between the last masks of two people, one value for each structure that both clicked."""
    by_structure: dict[tuple[str, ...], list[Replayed]] = defaultdict(list)
    for one in replayed:
        step = one.episode.steps[0]
        by_structure[step.data_id, step.image_id, step.structure, step.model].append(one)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for same in by_structure.values():
        for pair in itertools.combinations(same, 2):
            first, second = sorted(pair, key=lambda each: each.episode.clicker)
            found[first.episode.clicker, second.episode.clicker].append(float(dice(first.mask, second.mask)))
    return dict(found)


def _replayed(
    player: PersonPlayer, spec: EpisodeSpec, recorded: EpisodeResult, rules: dict[str, ClickProtocol]
) -> Replayed:
    """Play a person's recorded clicks again, and the protocols' clicks on the same masks."""
    episode = player.open(spec)
    pairs: list[Pair] = []
    clicks: list[Click] = []
    # Each step again; before a click, the protocols are asked in the same state.
    for step in recorded.steps:
        if step.undone:
            episode.undo(Thought())
            clicks = clicks[:-1]
        elif step.point_zyx is None:
            episode.stop(Thought())
        else:
            click = Click(step.point_zyx, bool(step.label))
            context = ClickContext(
                episode.truth,
                episode.mask,
                episode.truth & ~episode.mask,
                episode.mask & ~episode.truth,
                tuple(clicks),
                episode.spacing,
            )
            pairs += _pairs(recorded.clicker, step.step, click, context, rules)
            episode.click(click, Thought())
            clicks.append(click)
        if episode.ended:
            break
    return Replayed(recorded, tuple(pairs), episode.mask)


def _pairs(
    person: str, step: int, click: Click, context: ClickContext, rules: dict[str, ClickProtocol]
) -> Iterator[Pair]:
    """Yield a person's click beside that of each protocol in the same state."""
    slipped = bool(context.truth[click.zyx]) != click.positive
    for name, rule in rules.items():
        rule.reset(step)
        other = rule.choose(context)
        if other is None:
            continue
        z, y, x = (np.subtract(click.zyx, other.zyx) * context.spacing).tolist()
        yield Pair(person, name, step, (z, y, x), click.positive == other.positive, slipped)


def _protocol(name: str) -> ClickProtocol:
    clicker = make_clicker(name)
    if not isinstance(clicker, ClickProtocol):
        raise InputError(f"{name}: is no click protocol; `synthfm list protocols` shows them")
    return clicker
