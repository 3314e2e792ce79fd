"""Provides a segmenter with logits at half the resolution: balls around the clicks."""

import numpy as np

from synthfm_env.segmenters import Capabilities, Prediction, Seconds, Segmenter, Session

RADIUS = 4.0


class Coarse(Segmenter):
    name = "coarse"
    capabilities = Capabilities()

    def __init__(self):
        self.starts = 0

    def start(self, image, spacing):
        self.starts += 1
        return CoarseSession(image.shape)


class CoarseSession(Session):
    def __init__(self, shape):
        self._shape = shape
        self._clicks = []

    @property
    def clicks(self):
        return tuple(self._clicks)

    def add(self, click):
        self._clicks.append(click)
        return self._answer()

    def undo(self):
        self._clicks.pop()
        return self._answer()

    def reset(self):
        self._clicks.clear()

    def close(self):
        self._clicks.clear()

    def _answer(self):
        depth, height, width = self._shape
        grid = np.indices((depth, height // 2, width // 2)).T * [1, 2, 2] + [0, 0.5, 0.5]
        logits = np.full(grid.shape[:3], -RADIUS).T
        for click in self._clicks:
            ball = RADIUS - np.linalg.norm(grid - np.array(click.zyx), axis=-1).T
            logits = np.maximum(logits, ball) if click.positive else np.minimum(logits, -ball)
        mask = (logits > 0).repeat(2, 1).repeat(2, 2)
        return Prediction(mask, logits.astype(np.float32), Seconds(0.0, 0.0))
