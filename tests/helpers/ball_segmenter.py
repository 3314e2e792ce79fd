"""Provides segmenters for tests: fast, exact, and broken on demand."""

import numpy as np

from synthfm_env import Prediction, Segmenter, Session
from synthfm_env.segmenters import Capabilities, Seconds


class BallSession(Session):
    """A ball around each positive click, cut by a ball around each negative one; the later click wins."""

    def __init__(self, segmenter, image):
        self.segmenter, self.image = segmenter, image
        self._clicks = []
        self._masks = [np.zeros(image.shape, bool)]  # after each click
        self.open = True

    @property
    def clicks(self):
        return tuple(self._clicks)

    def add(self, click):
        assert self.open
        click.check_inside(self.image.shape)
        grid = np.ogrid[tuple(slice(n) for n in self.image.shape)]
        distance2 = sum((axis - i) ** 2 for axis, i in zip(grid, click.zyx, strict=True))
        self._clicks.append(click)
        self._masks.append(np.where(distance2 <= self.segmenter.radius**2, click.positive, self._masks[-1]))
        return self.predict()

    def predict(self):
        return Prediction(self._masks[-1].copy(), None, Seconds(0.0, 0.0))

    def undo(self):
        self._clicks.pop()
        self._masks.pop()
        return self.predict()

    def reset(self):
        self._clicks.clear()
        del self._masks[1:]

    def close(self):
        self.open = False


class BallSegmenter(Segmenter):
    """Counts the sessions it opens, and keeps the last one for the tests to look into."""

    name = "ball"
    capabilities = Capabilities()

    def __init__(self, radius=4):
        self.radius = radius
        self.started = 0
        self.session = None

    def start(self, image, spacing):
        self.started += 1
        self.session = BallSession(self, image)
        return self.session


class BreakingSession(BallSession):
    def add(self, click):
        if len(self._clicks) == 2:
            raise RuntimeError("out of luck")
        return super().add(click)


class BreakingSegmenter(BallSegmenter):
    """Fails on the third click."""

    def start(self, image, spacing):
        self.started += 1
        self.session = BreakingSession(self, image)
        return self.session


class CroppingSession(BallSession):
    def add(self, click):
        full = super().add(click)
        return Prediction(full.mask[:, 1:], None, full.seconds)


class CroppingSegmenter(BallSegmenter):
    """Returns masks on another grid than the image's."""

    def start(self, image, spacing):
        self.session = CroppingSession(self, image)
        return self.session


class BallLogitsSession(BallSession):
    def predict(self):
        mask = self._masks[-1]
        grey = self.image.astype(np.float32) / 255
        return Prediction(mask.copy(), np.where(mask, 1 + grey, -1 - grey).astype(np.float32), Seconds(0.0, 0.0))


class BallLogitsSegmenter(BallSegmenter):
    """Has logits: surer where the image is bright."""

    def start(self, image, spacing):
        self.started += 1
        self.session = BallLogitsSession(self, image)
        return self.session


BALL_LOGITS = "ball_segmenter:BallLogitsSegmenter"
