"""A segmenter of your own: regions that are as bright as the positive clicks, and connected with them.

``python examples/own_segmenter.py`` checks it. From the folder of this file,
``synthfm bench quick --segmenter own_segmenter:SameBrightness`` plays it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env import Capabilities, Click, InputError, Prediction, Seconds, Segmenter, Session
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.testing import check_segmenter

TOLERANCE = 15  # grey levels of 255


class SameBrightnessSession(Session):
    """One structure in one image."""

    def __init__(self, image: NDArray[np.float64]) -> None:
        self._image = image
        self._clicks: list[Click] = []
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return tuple(self._clicks)

    def add(self, click: Click) -> Prediction:
        """Take one more click and return the mask that follows from all of them."""
        self._check_open()
        click.check_inside(self._image.shape)
        self._clicks.append(click)
        return self._answer()

    def undo(self) -> Prediction:
        """Take back the newest click."""
        self._check_open()
        if not self._clicks:
            raise InputError("undo: there is no click to take back")
        self._clicks.pop()
        return self._answer()

    def reset(self) -> None:
        """Forget all clicks."""
        self._check_open()
        self._clicks = []

    def close(self) -> None:
        """End the session."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; start another")

    def _answer(self) -> Prediction:
        mask = np.zeros(self._image.shape, dtype=bool)
        for click in self._clicks:
            if click.positive:
                regions, _ = ndimage.label(abs(self._image - self._image[click.zyx]) < TOLERANCE)
                mask |= regions == regions[click.zyx]
        return Prediction(mask, logits=None, seconds=Seconds(encode=0.0, predict=0.0))


class SameBrightness(Segmenter):
    """Builds the sessions; holds what they share, for example a network."""

    name = "same-brightness"
    capabilities = Capabilities()

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> SameBrightnessSession:
        """Open a session on an image (D, H, W) or (D, H, W, 3), spacing (z, y, x) in mm."""
        grey = prepare_image(image, spacing)  # uint8; raises InputError for images that no segmenter can take
        return SameBrightnessSession(grey.astype(float) if grey.ndim == 3 else grey.mean(-1))


if __name__ == "__main__":
    check_segmenter(SameBrightness())
    print("keeps the contract of a segmenter")
