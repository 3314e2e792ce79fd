"""SAM 2 as a ``Segmenter``."""

from typing import Literal

import torch
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.segmenters.contract import Capabilities, Segmenter
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.sam2.features import Features
from synthfm_env.segmenters.sam2.frames import square_frames
from synthfm_env.segmenters.sam2.session import SAM2Session


class SAM2Segmenter(Segmenter):
    """Encode a volume once, answer each click by propagation; many sessions share one model.

    Attributes:
        model: the ``SAM2Base``, in evaluation mode.
        feature_budget: bytes that the encoded slices of one session may take; beyond it they are encoded again.
    """

    feature_budget = 2 * 2**30

    capabilities = Capabilities()

    def __init__(self, name: str, model: SAM2Base, device: torch.device, mode: Literal["fast", "exact"]) -> None:
        self.name = name
        self.model = model.to(device)
        self._fast = mode == "fast"
        self._dtype = torch.float32 if mode == "exact" else torch.float16

    def frames(self, image: NDArray) -> Tensor:
        """Return what the encoder is fed for ``image``: float32 (D, 3, S, S), see ``Segmenter.start``."""
        return square_frames(prepare_image(image, (1.0, 1.0, 1.0)), self.model.image_size)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> SAM2Session:
        """Open a session; slices are encoded as tracking reaches them; see ``Segmenter.start``."""
        prepared = prepare_image(image, spacing)
        depth, height, width = prepared.shape[:3]
        features = Features(self.model, prepared, self.feature_budget, self._dtype)
        return SAM2Session(self.model, features, (depth, height, width), fast=self._fast)


def pick_device(device: str) -> torch.device:
    """Return the device for ``"auto"`` or a torch device name.

    Raises:
        InputError: torch knows no such device, or has none of that kind here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is none that torch knows: {error}") from None
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch finds no CUDA device here; use device='cpu' or 'auto'")
    return picked
