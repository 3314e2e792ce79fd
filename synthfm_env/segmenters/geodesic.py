"""Implements the geodesic baseline: a voxel gets the label of the click that is nearer along paths that avoid edges."""

import time

from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click, check_click
from synthfm_env.segmenters.base import Capabilities, Prediction, Seconds, Segmenter, Session
from synthfm_env.segmenters.click_distances import KEPT_MAPS, ClickDistances
from synthfm_env.segmenters.image_input import prepare_image


class Geodesic(Segmenter):
    """Compares geodesic distances to positive and to negative clicks, after Bai & Sapiro (IJCV 2009).

    A voxel is inside if its cheapest path to a positive click costs less than that to a negative one.
    ``ClickDistances`` defines the cost of a path.

    - **The image's border is negative.** All voxels on its faces act as negative clicks, so that a first positive click
      gives a bounded region. Near the border, a structure that the border cuts off is outside until it is clicked
      there.
    - A clicked voxel has the label of its newest click.
    - Without a positive click the mask is empty.
    - On large volumes the balance of both distances is interpolated linearly to the image's grid.

    It is deterministic and has no logits.
    """

    name = "geodesic"
    capabilities = Capabilities()

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "GeodesicSession":
        """Open a session: compute the gradient and the distance to the border. See ``Segmenter.start``."""
        started = time.perf_counter()
        distances = ClickDistances(prepare_image(image, spacing), spacing)
        return GeodesicSession(distances, time.perf_counter() - started)


class GeodesicSession(Session):
    """Session of ``Geodesic``. A history of distances makes undo exact."""

    def __init__(self, distances: ClickDistances, encode_seconds: float) -> None:
        """Start without clicks; ``encode_seconds`` is reported with the first answer."""
        self._history = [distances]
        self._encode_seconds = encode_seconds

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks if self._history else ()

    def add(self, click: Click) -> Prediction:
        """Add a click; see ``Session.add``."""
        distances = self._current()
        check_click(click, distances.grid.image_shape)
        started = time.perf_counter()
        clicked = distances.with_click(click)
        prediction = self._prediction(clicked, started)
        self._history.append(clicked)
        if len(self._history) > KEPT_MAPS:
            self._history[-KEPT_MAPS - 1].drop_maps()
        return prediction

    def undo(self) -> Prediction:
        """Take back the newest click; see ``Session.undo``."""
        if not self._current().clicks:
            raise InputError("session.undo(): there is no click to undo")
        started = time.perf_counter()
        prediction = self._prediction(self._history[-2], started)
        self._history.pop()
        return prediction

    def reset(self) -> None:
        """Remove all clicks; the gradient and the distance to the border are kept."""
        self._current()
        del self._history[1:]

    def close(self) -> None:
        """Free all distance maps. May be called twice."""
        self._history = []

    def _current(self) -> ClickDistances:
        if not self._history:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")
        return self._history[-1]

    def _prediction(self, distances: ClickDistances, started: float) -> Prediction:
        mask = distances.grid.positive(distances.balance)
        distances.apply_clicks(mask)
        encode, self._encode_seconds = self._encode_seconds, 0.0
        return Prediction(mask, None, Seconds(encode, time.perf_counter() - started))
