"""The error that a user can mend."""

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


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a ``name`` that is not among the ``known`` ones, with the near matches."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}: {hint}")
