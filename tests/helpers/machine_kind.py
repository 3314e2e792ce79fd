"""Tells kinds of machines apart by what decides the bytes of floating-point results."""

from typing import Any

import torch


def machine_kind() -> dict[str, Any]:
    """Return the version of torch, its BLAS, and the vendor and the matrix instructions of the CPU.

    MKL chooses other code for a CPU of another vendor, and oneDNN for one with AMX: both sum in another order then.
    Sizes of caches and numbers of cores are left out.
    """
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "torch": torch.__version__,
        "blas": "mkl" if torch.backends.mkl.is_available() else "other",
        "vendor": str(capabilities.get("cpu_name", "unknown")).split(" ")[0],  # "Intel Xeon", "AMD EPYC"
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "avx512_bf16": bool(capabilities.get("avx512_bf16")),
        "amx_bf16": bool(capabilities.get("amx_bf16")),
    }
