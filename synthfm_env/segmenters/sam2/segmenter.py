"""Makes SAM 2 a ``Segmenter``."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.geometry import Crop
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.base import Capabilities, Prediction, Segmenter, Session, check_batch
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.sam2.multiview.session import MultiViewSession
from synthfm_env.segmenters.sam2.multiview.view import MultiView
from synthfm_env.segmenters.sam2.options import FAST, EngineOptions
from synthfm_env.segmenters.sam2.tracking.frames import square_frames
from synthfm_env.segmenters.sam2.tracking.propagation import STOP_AFTER_EMPTY
from synthfm_env.segmenters.sam2.tracking.slice_trackers import FastTracker, StockTracker
from synthfm_env.segmenters.sam2.tracking.stack import Stack
from synthfm_env.segmenters.sam2.tracking.stack_session import StackSession, add_together
from synthfm_env.segmenters.sam2.tracking.tracker import SliceTracker
from synthfm_env.segmenters.stopwatch import Stopwatch
from synthfm_env.segmenters.volume_network.segmenter import VolumeNetworkSegmenter

# A connected object is on consecutive slices of every axis, and other planes show what one plane loses. So three planes
# need not track the margins of a crop, a fifth of all slices; masks hardly change.
_STOP_AFTER_EMPTY_IN_PLANES = 3


class SAM2Segmenter(Segmenter):
    """SAM 2 as a segmenter: it encodes a volume once and answers each prompt by propagation.

    Attributes:
        name: the name or path given to ``make_segmenter``.
        model: the ``SAM2Base``, in evaluation mode.
        options: see ``EngineOptions``.
        network: the volume network whose logits are averaged with SAM 2's, or None.
    """

    capabilities = Capabilities(boxes=True, initial_mask=True)

    def __init__(
        self,
        name: str,
        model: SAM2Base,
        device: torch.device,
        *,
        exact: bool = False,
        options: EngineOptions = FAST,
        network: VolumeNetworkSegmenter | None = None,
    ) -> None:
        """Move a model to its device, and build the tracker that all sessions share.

        Args:
            name: for records.
            model: a SAM 2.
            device: where to run.
            exact: track as stock SAM 2 does, instead of faster.
            options: all but ``ensemble``, which ``network`` replaces.
            network: answers the same prompts; see ``MultiViewSession``.
        """
        self.name, self.options, self.network = name, options, network
        self.model = model.to(device)
        stop = STOP_AFTER_EMPTY if options.planes == 1 else _STOP_AFTER_EMPTY_IN_PLANES
        self._tracker: SliceTracker = StockTracker(model) if exact else FastTracker(model, options.memory, stop)

    def frames(self, image: NDArray) -> Tensor:
        """Return the encoder's input for an image, float32 (D, 3, S, S); see ``Segmenter.start`` for the image."""
        return square_frames(prepare_image(image, (1.0, 1.0, 1.0)), self.model.image_size)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> StackSession | MultiViewSession:
        """Open a session. Slices are encoded when tracking reaches them. See ``Segmenter.start``."""
        prepared = prepare_image(image, spacing)
        encoding, options = Stopwatch(), self.options

        def open_stack(slices: NDArray[np.uint8]) -> Stack:
            return Stack(self._tracker, slices, options.feature_budget, encoding)

        if options.planes == 1 and not options.zoom and self.network is None:
            return StackSession(open_stack(prepared), encoding)

        def open_view(crop: Crop, overview: bool) -> MultiView:
            side = self.model.image_size // 4
            return MultiView(open_stack, prepared, crop, planes=options.planes, side=side, overview=overview)

        depth, height, width = prepared.shape[:3]
        with encoding:
            network = self.network.start(prepared, spacing) if self.network else None
        return MultiViewSession(
            open_view, (depth, height, width), spacing, encoding, zoom=options.zoom, network=network
        )

    def add_many(self, sessions: Sequence[Session], clicks: Sequence[Click]) -> list[Prediction]:
        """Add one click to each session. Sessions of one stack are tracked in batches. See ``Segmenter.add_many``.

        With the preset "stock" the answers equal those of single clicks bit for bit, because both encode the same
        batches of slices. With "fast" logits differ by the rounding of larger matrix products.
        """
        check_batch(self, sessions, clicks)
        alike = [session for session in sessions if isinstance(session, StackSession)]
        if len(alike) < len(sessions):
            return super().add_many(sessions, clicks)
        return add_together(alike, [Prompt((click,)) for click in clicks])
