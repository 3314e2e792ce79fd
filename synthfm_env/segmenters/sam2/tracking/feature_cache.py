"""The encoded slices of one volume, as many as a memory budget holds."""

import time
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.image_encoder import Encoder
from synthfm_env.segmenters.sam2.fast.precision import quick, quick_precision
from synthfm_env.segmenters.sam2.tracking.frames import square_frames

_BATCH = 4  # slices encoded at once


class Features:
    """What the image encoder makes of each slice: encoded when first asked for, in batches of neighbours, and kept.

    Beyond the budget the batch that was asked for longest ago is dropped, and encoded again when it is needed.
    Position encodings are the same for all slices and kept once.

    Attributes:
        depth: slices in the image.
        sizes: (h, w) of the three maps, at stride 4, 8 and 16.
        positions: three tensors (h * w, 1, C).
        seconds: spent on encoding so far.
        peak_bytes: the most memory that the maps have taken.
    """

    def __init__(self, model: SAM2Base, image: NDArray[np.uint8], budget: int, dtype: torch.dtype) -> None:
        """Take an image, encode nothing yet.

        Args:
            model: whose encoder is used.
            image: uint8 (D, H, W) or (D, H, W, 3), kept by reference.
            budget: bytes that the maps may take; one batch is always kept.
            dtype: that the maps are kept in.
        """
        self._model, self._image, self._budget, self._dtype = model, image, budget, dtype
        # Maps kept in half precision are made in it, where that is fast.
        quickly = dtype != torch.float32
        self._precision = quick_precision(model.device) if quickly else dtype
        self._encoder = Encoder(model) if quickly and model.device.type == "cpu" else self._encode_as_stock
        self._batches: OrderedDict[int, list[Tensor]] = OrderedDict()
        self._bytes = 0
        self.depth = len(image)
        self._memory_position: list[Tensor] = []
        self.sizes: list[tuple[int, int]] = []
        self.positions: list[Tensor] = []
        self.seconds = 0.0
        self.peak_bytes = 0

    def levels(self, z: int) -> list[Tensor]:
        """Return the three maps of slice ``z`` as float32 (h * w, 1, C), the form that SAM 2 tracks with."""
        return [level.flatten(2).permute(2, 0, 1) for level in self.maps(z)]

    def maps(self, z: int) -> list[Tensor]:
        """Return the three maps of slice ``z`` as float32 (1, C, h, w)."""
        batch, offset = divmod(z, _BATCH)
        if batch in self._batches:
            self._batches.move_to_end(batch)
        else:
            self._encode(batch)
        maps = self._batches[batch]
        return [level[offset : offset + 1].float() for level in maps]

    def memory_position(self, position: list[Tensor]) -> list[Tensor]:
        """Return the one kept copy of a memory's position encoding, the same for every slice."""
        if not self._memory_position:
            self._memory_position = [p.clone() for p in position]
        return self._memory_position

    def clear(self) -> None:
        """Drop all maps."""
        self._batches.clear()
        self._bytes = 0

    def _encode(self, batch: int) -> None:
        started = time.perf_counter()
        slices = self._image[batch * _BATCH : (batch + 1) * _BATCH]
        device = self._model.device
        with quick(device, self._precision):
            levels = self._encoder(square_frames(slices, self._model.image_size).to(device))
        maps = [level.to(self._dtype) for level in levels]
        if not self.sizes:
            self.sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
            where = self._model.image_encoder.neck.position_encoding
            blanks = [torch.zeros(1, self._model.hidden_dim, *size, device=device) for size in self.sizes]
            self.positions = [where(blank).flatten(2).permute(2, 0, 1) for blank in blanks]
        size = sum(level.nbytes for level in maps)
        while self._batches and self._bytes + size > self._budget:
            _, dropped = self._batches.popitem(last=False)
            self._bytes -= sum(level.nbytes for level in dropped)
        self._batches[batch] = maps
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        self.seconds += time.perf_counter() - started

    def _encode_as_stock(self, frames: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self._model.forward_image(frames)["backbone_fpn"]
        return levels
