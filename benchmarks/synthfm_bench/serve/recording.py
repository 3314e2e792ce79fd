"""Records clicks in a viewer as a person's run. Images of the suite are recognised in any axis order."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm_bench.plan import Case, EpisodeSpec, open_volume
from synthfm_bench.play.person_episode import PersonEpisode, PersonPlayer, Thought
from synthfm_bench.play.person_run import PersonRun
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.suite import SyntheticData
from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import Prediction, Seconds, Segmenter, Session
from synthfm_env.volumes import Volume, to_uint8
from synthfm_env.volumes.axis_order import AxisOrder


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A recognised image of the suite.

    Attributes:
        order: axis order of the viewer's array relative to the case's volume.
        open: opens a recording session.
    """

    order: AxisOrder
    open: Callable[[], Session]


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """Fingerprint of a case's image."""

    case: Case
    shape: tuple[int, ...]
    corners: NDArray[np.float32]
    digest: bytes


class Recorder:
    """Records the clicks of viewers in a person's run.

    Args:
        run: of a suite with real volumes; viewers open the same files.
        segmenter: answers the clicks.
        clock: monotonic seconds.

    Raises:
        InputError: the suite has no image that a viewer can open, or one cannot be read.
    """

    def __init__(self, run: PersonRun, segmenter: Segmenter, clock: Callable[[], float]) -> None:
        self._run = run
        self._segmenter = segmenter
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = set(run.episodes)
        cases = {(spec.case.data.name, spec.case.image_id): spec.case for spec in run.plan.specs}
        real = [case for case in cases.values() if not isinstance(case.data, SyntheticData)]
        if not real:
            raise InputError(f"--record: suite {run.suite.name} has no image file that a viewer could open")
        self._images = [_fingerprint(case, open_volume(case).image) for case in real]

    def recognise(self, voxels: NDArray[np.float32]) -> Known | None:
        """Return the case of an image that a viewer sent, None for another image."""
        for order in AxisOrder.every():
            turned = order.to_volume(voxels)
            for image in self._images:
                if turned.shape != image.shape or not np.array_equal(_corners(turned), image.corners):
                    continue
                if hashlib.sha256(np.ascontiguousarray(turned).data).digest() == image.digest:
                    return Known(order, lambda case=image.case: self._open(case))  # type: ignore[misc]
        return None

    def take(self, case: Case, volume: Volume, click: Click) -> EpisodeSpec | None:
        """Reserve and return the episode of the structure under a first click; None if the suite has none left."""
        assert volume.label is not None, "a case has a label"
        inside = int(volume.label[click.zyx]) if click.positive else 0
        with self._lock:
            for spec in self._run.plan.specs:
                same = spec.case.data.name == case.data.name and spec.case.image_id == case.image_id
                if same and spec.structure == inside and inside and spec.episode_id not in self._taken:
                    self._taken.add(spec.episode_id)
                    return spec
        return None

    def give(self, spec: EpisodeSpec, episode: PersonEpisode) -> None:
        """Record a finished episode."""
        with self._lock:
            self._run.append(EpisodeResult(tuple(episode.records)))
            self._run.finish()

    def give_back(self, spec: EpisodeSpec) -> None:
        """Free an episode that was not played."""
        with self._lock:
            self._taken.discard(spec.episode_id)

    def _open(self, case: Case) -> Session:
        volume = open_volume(case)
        player = PersonPlayer(self._run.suite, self._run.about["run_id"], self._segmenter)
        plain = self._segmenter.start(to_uint8(volume.image, volume.modality), volume.spacing)
        return RecordedSession(self, player, case, volume, plain, self._clock)


class RecordedSession(Session):
    """Records a person's clicks on the structure under the first, positive click.

    Other first clicks, structures that were recorded before, and prompts beyond the budget are answered but not
    recorded.
    """

    def __init__(
        self,
        recorder: Recorder,
        player: PersonPlayer,
        case: Case,
        volume: Volume,
        plain: Session,
        clock: Callable[[], float],
    ) -> None:
        self._recorder, self._player, self._case, self._volume = recorder, player, case, volume
        self._plain = plain
        self._clock = clock
        self._seen = clock()
        self._now: tuple[EpisodeSpec, PersonEpisode] | None = None
        self._clicks: list[Click] = []

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return tuple(self._clicks) if self._now else self._plain.clicks

    def add(self, click: Click) -> Prediction:
        """Answer a click, and record it if its structure is recorded."""
        click.check_inside(self._volume.image.shape)
        if self._now is None and not self._plain.clicks:
            self._begin(click)
        if self._now is None:
            return self._plain.add(click)
        episode = self._now[1]
        episode.click(click, self._thought())
        self._clicks.append(click)
        return self._answer(episode)

    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Answer prompts; any prompt but a single click ends the recording."""
        if len(clicks) == 1 and box is None and mask is None:
            return self.add(clicks[0])
        self._end(go_on=True)
        return self._plain.prompt(clicks, box=box, mask=mask)

    def undo(self) -> Prediction:
        """Take back the newest prompt."""
        if self._now is None:
            return self._plain.undo()
        if not self._clicks:
            raise InputError("session.undo(): there is no click to undo")
        episode = self._now[1]
        episode.undo(self._thought())
        self._clicks.pop()
        return self._answer(episode)

    def reset(self) -> None:
        """End the structure and remove its clicks."""
        self._end(go_on=False)
        self._plain.reset()
        self._seen = self._clock()

    def close(self) -> None:
        """End the structure and close the sessions."""
        self._end(go_on=False)
        self._plain.close()
        self._player.close()

    def _begin(self, click: Click) -> None:
        spec = self._recorder.take(self._case, self._volume, click)
        if spec is not None:
            self._now = spec, self._player.open(spec)
            self._clicks = []

    def _answer(self, episode: PersonEpisode) -> Prediction:
        record, mask = episode.records[-1], episode.mask
        seconds = Seconds(record.t_encode_s or 0.0, record.t_predict_s or 0.0)
        self._seen = self._clock()
        if episode.ended:  # the budget is used up: later clicks are answered, not recorded
            self._end(go_on=True)
        return Prediction(mask, None, seconds)

    def _end(self, *, go_on: bool) -> None:
        """Finish the recorded episode. With ``go_on`` its clicks stay in force in the unrecorded session."""
        if self._now is None:
            return
        (spec, episode), self._now = self._now, None
        if not episode.records:
            self._recorder.give_back(spec)
            return
        if not episode.ended:
            episode.stop(self._thought())
        self._recorder.give(spec, episode)
        if go_on and self._clicks:
            for click in self._clicks:
                self._plain.add(click)

    def _thought(self) -> Thought:
        return Thought(max(0.0, self._clock() - self._seen))


def _fingerprint(case: Case, image: NDArray[np.float32]) -> _Image:
    # Only the fingerprint is kept; the image is read again when a viewer opens it.
    return _Image(case, image.shape, _corners(image), hashlib.sha256(np.ascontiguousarray(image).data).digest())


def _corners(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a plane's edge lines, a cheap comparison that rules out most orders of axes."""
    return np.concatenate((image[0, 0], image[0, :, 0], image[:, 0, 0]))
