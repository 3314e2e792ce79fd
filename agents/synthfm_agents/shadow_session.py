"""Follows an episode in a second session, for clickers that query a segmenter themselves."""

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Observation, clicks_in
from synthfm_env.segmenters import Prediction, Segmenter, Session
from synthfm_env.segmenters.shared import shared_segmenter


class ShadowSession:
    """Follows an episode: the same image and the same clicks, in a second session.

    The image is encoded a second time, and each click is answered a second time. The image of the previous episode is
    not encoded again.

    Args:
        segmenter: a name or path, built when it is first needed and shared by name, or a ``Segmenter``.

    Attributes:
        prediction: the answer to the clicks of the newest observation, None for no click.
        answers: number of answers that the segmenter gave in this session.
    """

    def __init__(self, segmenter: str | Segmenter) -> None:
        self._name_or_segmenter = segmenter
        self.answers = 0
        self._session: Session | None = None
        self._image: NDArray[np.uint8] | None = None
        self._spacing: tuple[float, ...] = ()
        self.prediction: Prediction | None = None

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter, built at first use if only its name was given.

        Raises:
            InputError: a name that is not known, or weights that cannot be read.
        """
        given = self._name_or_segmenter
        return given if isinstance(given, Segmenter) else shared_segmenter(given)

    def follow(self, observation: Observation) -> Session:
        """Return the session with the clicks of an observation; ``prediction`` is its answer, None for no click."""
        session = self._open(observation)
        clicks = clicks_in(observation)
        if clicks[: len(session.clicks)] != session.clicks or not clicks:
            session.reset()
            self.prediction = None
        for click in clicks[len(session.clicks) :]:
            self.prediction = session.add(click)
            self.answers += 1
        return session

    def _open(self, observation: Observation) -> Session:
        """Return the session on the observation's image, a new one if image or spacing changed."""
        image = observation["image"]
        z, y, x = (float(size) for size in observation["spacing"])
        if self._session is not None:
            if (z, y, x) == self._spacing and np.array_equal(image, self._image):  # type: ignore[arg-type]
                return self._session
            self._session.close()
        self._image, self._spacing, self.prediction = image.copy(), (z, y, x), None
        self._session = self.segmenter.start(self._image, (z, y, x))
        return self._session
