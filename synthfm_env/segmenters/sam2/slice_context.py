"""Gives SAM 2's image encoder the neighbours of a slice: as colour channels, or through 3D adapters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.image_encoder import ImageEncoder
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from synthfm_env.errors import InputError
from synthfm_env.printable import printable

REACH = 1
"""Slices on either side that a slice's features depend on."""

MOST_CHANNELS = 1024


@dataclass(frozen=True, slots=True)
class SliceContext:
    """Input of the image encoder in addition to the slice itself; the default is none, as in SAM 2.

    Attributes:
        neighbours: the slices before and after a slice take its first and third colour channel (2.5D).
        adapter: channels of a 3D adapter behind each stage of the trunk, 0 for none.

    Raises:
        InputError: both are set.

    Example:
        >>> SliceContext(adapter=16).header()
        {'depth_adapter': '16'}
    """

    neighbours: bool = False
    adapter: int = 0

    def __post_init__(self) -> None:
        if self.neighbours and self.adapter:
            raise InputError(
                f"neighbours and depth_adapter {self.adapter} are two ways to see neighbouring slices; choose one"
            )

    def header(self) -> dict[str, str]:
        """Return the entries for the header of a weights file; none for the default."""
        entries = {"neighbours": "1"} if self.neighbours else {}
        return entries | ({"depth_adapter": str(self.adapter)} if self.adapter else {})

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> "SliceContext":
        """Read what ``header`` returned; raises InputError on any other value."""
        text = header.get("depth_adapter", "0")
        if not text.isdecimal() or int(text) > MOST_CHANNELS or header.get("neighbours", "1") != "1":
            raise InputError(
                f"a weights file's header states depth_adapter {printable(text)!r} and neighbours "
                f"{printable(header.get('neighbours'))!r}; expected channels up to {MOST_CHANNELS}, and 1 or nothing"
            )
        return cls("neighbours" in header, int(text))


class DepthAdapter(nn.Module):
    """A bottleneck with a depth-wise 3 x 3 x 3 convolution, added to a stage's map; at the start it adds nothing.

    It follows 3DSAM-adapter (arXiv 2306.13465) and MA-SAM (arXiv 2309.08842), whose adapters are inside the trunk's
    blocks. Here each stage is followed by one, so that a slice depends on its two
    neighbours alone, whatever the depth of the trunk.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down = nn.Conv3d(channels, width, 1)
        self.depthwise = nn.Conv3d(width, width, 3, padding=(0, 1, 1), groups=width)
        self.up = nn.Conv3d(width, channels, 1)
        nn.init.zeros_(self.up.weight)
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)

    def forward(self, stack: Tensor) -> Tensor:
        """Return maps (B, C, T, h, w) of T neighbouring slices; the first and the last are repeated at the ends."""
        padded = torch.cat((stack[:, :, :1], stack, stack[:, :, -1:]), 2)
        added: Tensor = self.up(F.gelu(self.depthwise(self.down(padded))))
        return stack + added


class ContextEncoder(ImageEncoder):
    """SAM 2's image encoder with neighbouring slices as input; its own parameters keep their names.

    Attributes:
        context: the input in addition to the slice itself.
        adapters: one for each stage of the trunk, from the finest; none with ``context.neighbours``.
    """

    def __init__(self, encoder: ImageEncoder, context: SliceContext) -> None:
        super().__init__(encoder.trunk, encoder.neck, encoder.scalp)
        self.context = context
        channels = encoder.trunk.channel_list[::-1]
        self.adapters = nn.ModuleList(DepthAdapter(c, context.adapter) for c in channels if context.adapter)

    def forward(self, sample: Tensor) -> dict[str, Any]:
        """Encode stacks; see ``ImageEncoder.forward``.

        Args:
            sample: (B, T, 3, S, S), or (T, 3, S, S) for one stack of neighbouring slices.

        Returns:
            Maps of B * T slices.
        """
        stacks = sample if sample.ndim == 5 else sample[None]
        stages = self.adapt(self.trunk(self.mix(stacks).flatten(0, 1)), stacks.shape[0])
        features, positions = self.neck(stages)
        if self.scalp:
            features, positions = features[: -self.scalp], positions[: -self.scalp]
        return {"vision_features": features[-1], "vision_pos_enc": positions, "backbone_fpn": features}

    def mix(self, stacks: Tensor) -> Tensor:
        """Return (B, T, 3, S, S) whose first and third channels are those of the slices before and after."""
        if not self.context.neighbours:
            return stacks
        before = torch.cat((stacks[:, :1, :1], stacks[:, :-1, :1]), 1)
        after = torch.cat((stacks[:, 1:, 2:], stacks[:, -1:, 2:]), 1)
        return torch.cat((before, stacks[:, :, 1:2], after), 2)

    def adapt(self, stages: Sequence[Tensor], stacks: int = 1) -> list[Tensor]:
        """Apply the adapters to the trunk's maps (B * T, C, h, w) of B stacks."""
        if not self.adapters:
            return list(stages)
        adapted = []
        for adapter, maps in zip(self.adapters, stages, strict=True):
            stack = adapter(maps.unflatten(0, (stacks, -1)).transpose(1, 2))
            adapted.append(stack.transpose(1, 2).flatten(0, 1))
        return adapted


def add_context(model: SAM2Base, context: SliceContext) -> None:
    """Give a model's image encoder neighbouring slices as input; the default context changes nothing."""
    if context != SliceContext():
        model.image_encoder = ContextEncoder(model.image_encoder, context)


def context_of(model: SAM2Base) -> SliceContext:
    """Return the input of a model's image encoder in addition to the slice itself."""
    encoder = model.image_encoder
    return encoder.context if isinstance(encoder, ContextEncoder) else SliceContext()
