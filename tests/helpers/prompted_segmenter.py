"""Provides a segmenter that answers with balls around clicks, and with boxes and masks as given."""

import numpy as np
from ball_segmenter import BallSegmenter, BallSession

from synthfm_env import Capabilities


class PromptedSession(BallSession):
    """Takes a box or a mask as its first mask."""

    def prompt(self, clicks=(), *, box=None, mask=None):
        first = np.zeros(self.image.shape, bool)
        if box is not None:
            first[box.slices] = True
        self._masks = [first if mask is None else mask.copy()]
        return self.predict()

    def undo(self):
        if self._clicks:
            return super().undo()
        self._masks = [np.zeros(self.image.shape, bool)]
        return self.predict()


class PromptedSegmenter(BallSegmenter):
    name = "prompted"
    capabilities = Capabilities(boxes=True, initial_mask=True)

    def start(self, image, spacing):
        self.started += 1
        self.session = PromptedSession(self, image)
        return self.session
