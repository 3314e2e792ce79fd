"""Matrix products of fast mode."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROUND = 64  # keys are a multiple of it
_SMALL = 2**20  # multiplications below which oneDNN's overhead outweighs its speed


# torch multiplies float32 matrices with MKL, which leaves half of the vector units of an AMD CPU with AVX512 idle.
# oneDNN, which torch uses for convolutions and bfloat16, does not; torch.compile calls this operator.
@cache
def _has_onednn() -> bool:
    """Tell whether this build of torch has oneDNN's product of plain float32 matrices, and it works here."""
    try:
        x = torch.ones(2, 3)
        y = torch.ops.mkldnn._linear_pointwise(x, x, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(y, x @ x.T)


def onednn_for(x: Tensor) -> bool:
    """Tell whether products with ``x``, and convolutions of it, are left to oneDNN."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and _has_onednn()


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    # oneDNN is slow with a weight that neither lies without gaps in memory nor its transpose.
    dense = weight.is_contiguous() or weight.T.is_contiguous()
    return dense and x.numel() * len(weight) > _SMALL and onednn_for(x) and weight.dtype == x.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` does, up to the rounding of sums; on some CPUs twice as fast."""
    if _is_for_onednn(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


def through(layer: nn.Linear, x: Tensor) -> Tensor:
    """Return what a layer makes of ``x``."""
    return linear(x, layer.weight, layer.bias)


def activated(layer: nn.Linear, activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return what a layer and the activation behind it make of ``x``; oneDNN does both in one pass."""
    name = _name_of(activation)
    if name and _is_for_onednn(x, layer.weight):
        # The last argument is the kind of GELU, and nothing to others.
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, [], "none")
        return made
    return activation(through(layer, x))


def _name_of(activation: Callable[[Tensor], Tensor]) -> str | None:
    """Return oneDNN's name of SAM 2's two activations, None for others."""
    if activation is F.relu or isinstance(activation, nn.ReLU):
        return "relu"
    return "gelu" if isinstance(activation, nn.GELU) and activation.approximate == "none" else None


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Return what a layer norm makes of ``x``."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def attend(queries: Tensor, keys: Tensor, values: Tensor, count: int) -> Tensor:
    """Return what queries take from values.

    Args:
        queries: (heads, n, C), scaled already.
        keys: (heads, m, C).
        values: (heads, m, C).
        count: of the m keys that are not there to fill up to a round number, see ``filling``.
    """
    if not onednn_for(queries):
        keys, values = keys[None, :, :count], values[None, :, :count]
        return F.scaled_dot_product_attention(queries[None], keys, values, scale=1.0)[0]
    found = []
    for q, k, v in zip(queries, keys, values, strict=True):
        alike = linear(q, k)
        alike[:, count:] = -torch.inf
        found.append(linear(alike.softmax(-1), v.contiguous().T))
    return torch.stack(found)


def filling(count: int, like: Tensor) -> int:
    """Return how many keys to add to ``count``: oneDNN takes a millisecond to prepare for each new shape."""
    return -count % _ROUND if onednn_for(like) else 0


class Joined:
    """Several layers of one input as one product; what a position adds to the input is added to the products."""

    def __init__(self, layers: Sequence[tuple[nn.Linear, Tensor | None]]) -> None:
        """Take layers, each with the position (1, N, C) that is added to its input, or None."""
        self._weight = torch.cat([layer.weight for layer, _ in layers])
        self._sizes = [len(layer.weight) for layer, _ in layers]
        tokens = max((position.shape[1] for _, position in layers if position is not None), default=1)
        added = [
            layer.bias.expand(1, tokens, -1) if position is None else through(layer, position)
            for layer, position in layers
        ]
        self._added = torch.cat(added, -1)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return each layer's product (B, N, channels)."""
        return (linear(x, self._weight) + self._added).split(self._sizes, -1)
