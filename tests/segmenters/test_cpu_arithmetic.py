"""Tests the choice of convolutions and of their precision."""

import pytest
import torch
import torch.nn.functional as F

from synthfm_env.segmenters import cpu_arithmetic
from synthfm_env.segmenters.cpu_arithmetic import bfloat16_autocast, conv3d

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 8, 5, 5, 5), (2, 8, 1, 12, 12), (1, 8, 20, 20, 20)])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv3d_agrees_with_torch_for_small_and_large_inputs(shape: tuple[int, ...], stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight, bias = torch.randn(16, 8, 1, 3, 3, generator=generator), torch.randn(16, generator=generator)
    expected = F.conv3d(x, weight, bias, stride, (0, 1, 1))
    with torch.inference_mode():
        found = conv3d(x, weight, bias, (stride, stride, stride), (0, 1, 1))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_conv3d_has_gradients() -> None:
    weight = torch.ones(1, 1, 3, 3, 3, requires_grad=True)
    conv3d(torch.ones(1, 1, 4, 4, 4), weight, None, (1, 1, 1), (1, 1, 1)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("found", "expected"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_bfloat16_is_used_only_if_the_cpu_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    cpu_arithmetic.cpu_has_bfloat16.cache_clear()
    try:
        with bfloat16_autocast(CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
    finally:
        cpu_arithmetic.cpu_has_bfloat16.cache_clear()


def test_a_torch_without_capabilities_stays_with_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    cpu_arithmetic.cpu_has_bfloat16.cache_clear()
    try:
        with bfloat16_autocast(CPU):
            assert not torch.is_autocast_enabled("cpu")
    finally:
        cpu_arithmetic.cpu_has_bfloat16.cache_clear()
