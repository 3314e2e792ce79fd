"""Where fast mode multiplies matrices in bfloat16."""

import torch


def quick_precision(device: torch.device) -> torch.dtype:
    """Return the type in which a device multiplies matrices fastest at a precision that keeps fast mode's masks.

    bfloat16 on CUDA, and on CPUs with AVX512-BF16, where it takes about half of float32's time; other CPUs emulate
    it, which is slower.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if device.type == "cpu" and native() else torch.float32


def quick(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context in which matrices are multiplied in ``dtype``; float32 leaves everything as it is."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
