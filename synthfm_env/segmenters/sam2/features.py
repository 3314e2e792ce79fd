"""The encoded slices of one volume."""

from dataclasses import dataclass, field

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

_BATCH = 8  # slices encoded at once


@dataclass(slots=True)
class Features:
    """What the image encoder made of each slice; position encodings are the same for all and kept once.

    Attributes:
        maps: three tensors (D, C, h, w), at stride 4, 8 and 16.
        positions: three tensors (h * w, 1, C).
        sizes: (h, w) of the three.
    """

    maps: list[Tensor]
    positions: list[Tensor]
    sizes: list[tuple[int, int]]
    _memory_position: list[Tensor] = field(default_factory=list)

    @classmethod
    def empty(cls) -> "Features":
        """Return features of nothing, for a closed session."""
        return cls([], [], [])

    @classmethod
    @torch.inference_mode()
    def encode(cls, model: SAM2Base, frames: Tensor) -> "Features":
        """Encode (D, 3, S, S) frames in batches."""
        maps: list[Tensor] = []
        positions: list[Tensor] = []
        for start in range(0, len(frames), _BATCH):
            batch = frames[start : start + _BATCH].to(model.device)
            backbone = model.forward_image(batch)
            if not maps:
                maps = [level.new_empty((len(frames), *level.shape[1:])) for level in backbone["backbone_fpn"]]
                positions = [p[:1].flatten(2).permute(2, 0, 1).clone() for p in backbone["vision_pos_enc"]]
            for whole, level in zip(maps, backbone["backbone_fpn"], strict=True):
                whole[start : start + len(batch)] = level
        return cls(maps, positions, [(level.shape[-2], level.shape[-1]) for level in maps])

    @property
    def device(self) -> torch.device:
        """Where the features lie."""
        return self.maps[0].device

    def levels(self, z: int) -> list[Tensor]:
        """Return the three maps of slice ``z`` as (h * w, 1, C), the form that SAM 2 tracks with."""
        return [level[z : z + 1].flatten(2).permute(2, 0, 1) for level in self.maps]

    def memory_position(self, position: list[Tensor]) -> list[Tensor]:
        """Return the one kept copy of a memory's position encoding, the same for every slice."""
        if not self._memory_position:
            self._memory_position = [p.clone() for p in position]
        return self._memory_position
