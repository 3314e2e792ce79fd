"""SAM 2 as a ``Segmenter``."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.base import Capabilities, Prediction, Segmenter, Session, check_batch
from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.sam2.fast.memory_attention import Memory
from synthfm_env.segmenters.sam2.multiview.refiner import Refines
from synthfm_env.segmenters.sam2.multiview.session import ZoomSession
from synthfm_env.segmenters.sam2.multiview.view import Box, Planes
from synthfm_env.segmenters.sam2.tracking.feature_cache import Features
from synthfm_env.segmenters.sam2.tracking.frames import square_frames
from synthfm_env.segmenters.sam2.tracking.stack_session import SAM2Session, add_together


class SAM2Segmenter(Segmenter):
    """Encode a volume once, answer each click by propagation; many sessions share one model.

    Attributes:
        model: the ``SAM2Base``, in evaluation mode.
        refiner: what has the last word on its masks, None for none.
        feature_budget: bytes that the encoded slices of one session may take; beyond it they are encoded again.
        memory: which slices a slice remembers, in fast mode. "all": every clicked one and the last six tracked.
            "nearest": of the clicked ones the four nearest. "confident": every clicked one, and of the last sixteen
            tracked the six whose masks the model thinks best, after MedSAM-2's bank (Zhu et al. 2024,
            arXiv:2408.00874).
    """

    feature_budget = 2 * 2**30
    memory: Memory = "all"

    capabilities = Capabilities(boxes=True, initial_mask=True)

    def __init__(
        self,
        name: str,
        model: SAM2Base,
        device: torch.device,
        mode: Literal["fast", "exact"],
        *,
        planes: Literal[1, 3] = 1,
        zoom: bool = False,
        distances: bool = False,
        refiner: Refines | None = None,
    ) -> None:
        """Take a model; see ``make_segmenter`` for what the options do. A refiner needs ``distances``."""
        self.name = name
        self.model = model.to(device)
        self._fast = mode == "fast"
        self.refiner = refiner
        self._planes, self._zoom, self._distances = planes, zoom, distances
        self._dtype = torch.float32 if mode == "exact" else torch.float16

    def frames(self, image: NDArray) -> Tensor:
        """Return what the encoder is fed for ``image``: float32 (D, 3, S, S), see ``Segmenter.start``."""
        return square_frames(prepare_image(image, (1.0, 1.0, 1.0)), self.model.image_size)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> SAM2Session | ZoomSession:
        """Open a session; slices are encoded as tracking reaches them; see ``Segmenter.start``."""
        prepared = prepare_image(image, spacing)
        if self._planes == 1 and not self._zoom and not self._distances:
            return self._slices(prepared)

        def open_planes(box: Box, overview: bool) -> Planes:
            side = self.model.image_size // 4
            return Planes(self._slices, prepared, box, planes=self._planes, side=side, overview=overview)

        def measure() -> ClickDistances:
            return ClickDistances(prepared, spacing)

        depth, height, width = prepared.shape[:3]
        return ZoomSession(
            open_planes,
            (depth, height, width),
            zoom=self._zoom,
            measure=measure if self._distances else None,
            refine=self.refiner.refine if self.refiner else None,
        )

    def add_many(self, sessions: Sequence[Session], clicks: Sequence[Click]) -> list[Prediction]:
        """Give each session one more click; fast mode tracks them in batches; see ``Segmenter.add_many``.

        Exact mode gives what single clicks give, bit for bit; fast mode's logits differ by the rounding of larger
        matrix products.
        """
        alike = [session for session in sessions if isinstance(session, SAM2Session)]
        if len(alike) < len(sessions):
            return super().add_many(sessions, clicks)
        check_batch(sessions, clicks)
        return add_together(alike, [Prompt((click,)) for click in clicks])

    def _slices(self, stack: NDArray[np.uint8]) -> SAM2Session:
        depth, height, width = stack.shape[:3]
        features = Features(self.model, stack, self.feature_budget, self._dtype)
        return SAM2Session(self.model, features, (depth, height, width), fast=self._fast, memory=self.memory)
