"""Defines exceptions whose message is complete for a user, without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches

from synthfm_env.printable import shown


class InputError(ValueError):
    """Invalid user input; the message names the value, what was expected and what to do.

    The ``synthfm`` command prints the message as one line and ends with exit status 2.

    Example:
        >>> from synthfm_env import InputError, make_segmenter
        >>> try:
        ...     make_segmenter("geodesik")
        ... except InputError as error:
        ...     print(error)
        unknown segmenter 'geodesik': did you mean geodesic?
    """


class SegmenterError(RuntimeError):
    """A failure of a model in another process: it died, or its answer is invalid.

    The episode ends with the outcome ``model_error``; the run continues.
    """


class SegmenterTimeoutError(SegmenterError):
    """A model in another process that gave no answer within its time limit.

    The episode ends with the outcome ``timeout``; the run continues.
    """


class UserFacingError(RuntimeError):
    """A failure outside the program, for example a full disk; the message states what was kept and what to do.

    The ``synthfm`` command prints the message as one line and ends with exit status 1.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM: the system or another program asked this process to end. Handled like Ctrl-C."""

    number = 15


class HungUp(Terminated):
    """SIGHUP: the terminal was closed. Handled like Ctrl-C."""

    number = 1


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Return the error for a name that is not among the known ones; it lists near matches, or all names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5) if isinstance(name, str) else []
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} {shown(name, 120)}: {hint}")
