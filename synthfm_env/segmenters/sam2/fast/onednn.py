"""Computes matrix products with oneDNN, which torch uses for convolutions but not for float32 matrices."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfm_env.segmenters.cpu_arithmetic import uses_onednn

_KEY_MULTIPLE = 64  # pad keys to a multiple of this, because oneDNN takes a millisecond to prepare for a new shape
# torch multiplies float32 matrices with MKL, which uses half of the vector width of an AMD CPU with AVX512. oneDNN uses
# all of it, from so many multiplications on; below, its overhead outweighs its speed.
_MIN_PRODUCTS = 2**20


@cache
def _mkl_is_faster() -> bool:
    """Return True on CPUs with AVX2 alone: MKL uses all of their vector width, with less overhead than oneDNN."""
    return torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX2"


def _multiplies_with_onednn(x: Tensor) -> bool:
    """Return True if large products of ``x`` are computed by oneDNN."""
    return not _mkl_is_faster() and uses_onednn(x)


def _pays_off(x: Tensor, weight: Tensor) -> bool:
    if not _multiplies_with_onednn(x):
        return False
    # oneDNN is slow if neither the weight nor its transpose is contiguous.
    dense = weight.is_contiguous() or weight.T.is_contiguous()
    return dense and x.numel() * weight.shape[0] > _MIN_PRODUCTS and weight.dtype == x.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``torch.nn.functional.linear`` up to the rounding of sums, on some CPUs twice as fast."""
    if _pays_off(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


def apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute ``layer(x)`` with ``linear``."""
    return linear(x, layer.weight, layer.bias)


def linear_activation(layer: nn.Linear, activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute ``activation(layer(x))``; oneDNN does both in one pass."""
    name = _onednn_name(activation)
    if name and _pays_off(x, layer.weight):
        # The last argument is the kind of GELU; other activations ignore it.
        activated: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, [], "none")
        return activated
    return activation(apply_linear(layer, x))


def _onednn_name(activation: Callable[[Tensor], Tensor]) -> str | None:
    """Return oneDNN's name of an activation, or None if it is none of SAM 2's two."""
    if activation is F.relu or isinstance(activation, nn.ReLU):
        return "relu"
    return "gelu" if isinstance(activation, nn.GELU) and activation.approximate == "none" else None


def apply_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Compute ``norm(x)`` without the module's overhead."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def attention(queries: Tensor, keys: Tensor, values: Tensor, count: int) -> Tensor:
    """Compute softmax attention without scaling.

    Args:
        queries: (heads, n, C), scaled already.
        keys: (heads, m, C).
        values: (heads, m, C).
        count: number of real keys. The other ones are padding, see ``key_padding``.
    """
    if not uses_onednn(queries):
        keys, values = keys[None, :, :count], values[None, :, :count]
        return F.scaled_dot_product_attention(queries[None], keys, values, scale=1.0)[0]
    heads = []
    for q, k, v in zip(queries, keys, values, strict=True):
        if _multiplies_with_onednn(q):
            scores = linear(q, k)
            scores[:, count:] = -torch.inf
            heads.append(linear(scores.softmax(-1), v.contiguous().T))
        else:
            heads.append((q @ k[:count].T).softmax(-1) @ v[:count])
    return torch.stack(heads)


def key_padding(count: int, like: Tensor) -> int:
    """Return the number of padding keys to add to ``count`` keys, so that few different shapes occur."""
    return -count % _KEY_MULTIPLE if _multiplies_with_onednn(like) else 0


class FusedLinear:
    """Applies several linear layers to one input, as one matrix product.

    A constant position encoding of a layer's input is projected once and added to the layer's output.
    """

    def __init__(self, layers: Sequence[tuple[nn.Linear, Tensor | None]]) -> None:
        """Fuse layers.

        Args:
            layers: each with the position encoding (1, N, C) of its input, or None.
        """
        self._weight = torch.cat([layer.weight for layer, _ in layers])
        self._sizes = [len(layer.weight) for layer, _ in layers]
        tokens = max((position.shape[1] for _, position in layers if position is not None), default=1)
        offsets = [
            layer.bias.expand(1, tokens, -1) if position is None else apply_linear(layer, position)
            for layer, position in layers
        ]
        self._offset = torch.cat(offsets, -1)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return each layer's output (B, N, channels)."""
        return (linear(x, self._weight) + self._offset).split(self._sizes, -1)
