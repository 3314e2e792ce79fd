"""Refuses allocations that exceed a share of the free memory, before a file's header or a parameter causes them."""

import contextlib
import os
import sys
from pathlib import Path

from synthfm_env.errors import InputError

VARIABLE = "SYNTHFM_MEMORY_LIMIT"
"""Environment variable that sets the limit, in MiB. By default it is ``SHARE`` of the memory that is free."""

SHARE = 0.5

_MIB = 2**20


class MemoryLimitError(InputError):
    """Something would need more memory than the limit allows. Nothing was allocated."""


def check_memory(needed: int, what: str) -> None:
    """Refuse an allocation that exceeds the limit, before it is made.

    The limit is half of the free memory, or what the environment variable ``SYNTHFM_MEMORY_LIMIT`` sets, in MiB.

    Args:
        needed: bytes.
        what: begins the message: what needs the memory, with its size.

    Raises:
        MemoryLimitError: ``needed`` exceeds the limit.
        InputError: the environment variable is not a positive number.

    Example:
        >>> check_memory(1024, "scan.nii.gz: shape (8, 8, 8)")
    """
    limit, source = _limit()
    if limit is not None and needed > limit:
        raise MemoryLimitError(
            f"{what} needs {_size(needed)} of memory, the limit is {_size(limit)} ({source}); "
            f"use a smaller one, free memory, or set {VARIABLE} to more MiB"
        )


def free_memory() -> int | None:
    """Return the bytes that this process may still allocate, or None if the system does not report it.

    This is the least of the system's available memory, of what the process's control group leaves (Linux, version 2),
    and of what its resource limits leave.
    """
    limits = [limit for limit in (_system(), _control_group(), _resource_limit()) if limit is not None]
    return max(0, min(limits)) if limits else None


def _limit() -> tuple[int | None, str]:
    """Return the limit in bytes, None for none, and where it comes from."""
    text = os.environ.get(VARIABLE)
    if text is not None:
        if not text.isdecimal() or int(text) == 0:
            raise InputError(f"{VARIABLE}={text!r}: expected a whole number of MiB, 1 or more")
        return int(text) * _MIB, VARIABLE
    free = free_memory()
    return (None if free is None else int(free * SHARE)), f"{SHARE:.0%} of what is free"


def _system() -> int | None:
    """Return the bytes that the system has left; None if it does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, OSError, ValueError):  # macOS tells the whole memory only
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _control_group() -> int | None:
    """Return the bytes that the control group (Linux) has left; None without a limit."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[-1].partition("::")[2]
        folder = Path("/sys/fs/cgroup") / group.strip("/")
        most = int((folder / "memory.max").read_text(encoding="ascii"))
        return most - int((folder / "memory.current").read_text(encoding="ascii"))
    return None


def _resource_limit() -> int | None:
    """Return the bytes that this process may still take by its resource limits (Linux); None without one."""
    if sys.platform != "linux":
        return None
    import resource

    limits = []
    sizes = Path("/proc/self/statm").read_text(encoding="ascii").split()
    for kind, pages in ((resource.RLIMIT_AS, sizes[0]), (resource.RLIMIT_DATA, sizes[5])):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft - int(pages) * resource.getpagesize())
    return min(limits, default=None)


def _size(count: int) -> str:
    return f"{count / _MIB:,.0f} MiB" if count < 1024 * _MIB else f"{count / 2**30:,.1f} GiB"
