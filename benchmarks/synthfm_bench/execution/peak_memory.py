"""Measures the peak memory of a process and of its GPU."""

import contextlib
import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)


class PeakMemory:
    """Measures the peak memory of this process and of a segmenter's GPU.

    On Linux the peak is that since the last call. Elsewhere it is the peak since the process began, the only one that
    the system reports.

    Args:
        device: torch's name of the segmenter's device.
    """

    def __init__(self, device: str) -> None:
        self._gpu = device if device.startswith("cuda") else None
        self._forget()

    def since_last(self) -> dict[str, Any]:
        """Return ``peak_memory_mib`` and ``peak_gpu_mib`` since the last call."""
        peaks: dict[str, Any] = {"peak_memory_mib": _peak_mib(), "peak_gpu_mib": self._gpu_peak_mib()}
        self._forget()
        return peaks

    def _gpu_peak_mib(self) -> float | None:
        if self._gpu is None:
            return None
        import torch  # here, because a segmenter without a model does not need it

        return torch.cuda.max_memory_allocated(self._gpu) / 2**20

    def _forget(self) -> None:
        with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak since the process began
            _CLEAR.write_text(_RESET_PEAK)
        if self._gpu is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self._gpu)


def _peak_mib() -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:  # Windows
            return None
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)
