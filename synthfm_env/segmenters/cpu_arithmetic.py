"""Chooses the fastest convolution and precision for the CPU at hand."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]


@cache
def _has_onednn() -> bool:
    """Return True if this build of torch has oneDNN's product of float32 matrices, and it works on this CPU."""
    # The operator is one that torch.compile calls, so it is not public.
    try:
        x = torch.ones(2, 3)
        y = torch.ops.mkldnn._linear_pointwise(x, x, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(y, x @ x.T)


def uses_onednn(x: Tensor) -> bool:
    """Return True if products and convolutions of ``x`` run in oneDNN: float32 on a CPU, without autocast."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and _has_onednn()


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """Compute ``torch.nn.functional.conv3d``; a prediction in float32 on a CPU uses oneDNN for every shape.

    torch uses its own implementation if the product of batch, channels, depth and height is below 20481. On small crops
    of objects that one takes up to ten times as long.
    """
    if torch.is_grad_enabled() or not uses_onednn(x):
        return F.conv3d(x, weight, bias, stride, padding)
    output: Tensor = torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1, 1), 1)
    return output


def bfloat16_autocast(device: torch.device) -> torch.autocast:
    """Return a context in which a network runs in bfloat16 if the device has instructions for it.

    With them convolutions take a third of the time of float32, or less. A CPU without them emulates bfloat16 and takes
    more than ten times as long, so it stays with float32.
    """
    fast = device.type != "cpu" or cpu_has_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


@cache
def cpu_has_bfloat16() -> bool:
    """Return True if the CPU has instructions for products of bfloat16 matrices."""
    try:
        capabilities = torch.cpu.get_capabilities()
    except (AttributeError, RuntimeError):  # an older torch
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
