"""Exceptions whose message is all that a user needs."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave is wrong; the message names it, what was expected, and what to do.

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
    """A model outside this process failed: it died, or its answer cannot be used.

    An episode ends with the outcome ``model_error``; the run goes on.
    """


class SegmenterTimeoutError(SegmenterError):
    """A model outside this process gave no answer within its time limit.

    An episode ends with the outcome ``timeout``; the run goes on.
    """


class UserFacingError(RuntimeError):
    """Something outside the program failed, as a full disk; the message says what was kept and what to do.

    The ``synthfm`` command prints the message as one line and ends with exit status 1.
    """


class Terminated(KeyboardInterrupt):
    """The system or another program asked this process to end (SIGTERM); handled as Ctrl-C is."""

    number = 15


class HungUp(Terminated):
    """The terminal was closed (SIGHUP); handled as Ctrl-C is."""

    number = 1


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a ``name`` that is not among the ``known`` ones, with the near matches."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}: {hint}")
