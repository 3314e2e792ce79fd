"""Ends the scripts of this folder with one line for a user's mistake, and reads the arguments that they share."""

import sys
from collections.abc import Callable
from pathlib import Path

from synthfm_env.arguments import check_whole
from synthfm_env.errors import InputError
from synthfm_env.printable import printable, shown
from synthfm_env.volumes.datasets import get_layout


def run(main: Callable[[], None]) -> None:
    """Run a script. A user's mistake, or a file that cannot be read or written, is one line and exit status 2.

    Args:
        main: the script; it raises InputError or OSError for these.
    """
    try:
        main()
    except InputError as error:
        message = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
    else:
        return
    print(f"{Path(sys.argv[0]).name}: {printable(message, 2_000)}", file=sys.stderr)
    sys.exit(2)


def read_shape(text: str) -> tuple[int, int, int]:
    """Return a grid (D, H, W) from ``"24,48,48"``.

    Raises:
        InputError: the text is not three whole numbers above 0.

    Example:
        >>> read_shape("24,48,48")
        (24, 48, 48)
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--shape {shown(text)}: expected three voxel counts D,H,W, for example 24,48,48")
    depth, height, width = map(int, parts)
    return depth, height, width


def check_arguments(seed: int = 0, cases: int = 0, real: Path | None = None) -> None:
    """Check arguments that are used late, before a training begins.

    Raises:
        InputError: a seed or a number of cases below 0, or a folder without real cases.
    """
    check_whole(seed, "--seed", 0)
    check_whole(cases, "--cases", 0)
    if real is not None:
        get_layout("folder").items(real)
