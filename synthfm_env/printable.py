"""Makes any text safe to show, to write as UTF-8 and to read again."""

import re

_MORE = "..."
_SPACE = re.compile(r" *[^\S ]\s*")


def printable(text: object, most: int = 500) -> str:
    r"""Return a text as one line of printable characters.

    Line ends, tabs and the spaces around them become one space. Control characters, direction marks and lone
    surrogates become backslash escapes; a byte that is not UTF-8, as Python keeps it in file names, becomes its value.
    The function is idempotent.

    Args:
        text: anything. An object whose ``str`` raises becomes ``<TypeName without text>``.
        most: characters that are kept; a longer text ends in "...".

    Example:
        >>> printable("two\nlines \x1b[31m and a byte \udcff")
        'two lines \\x1b[31m and a byte \\xff'
    """
    try:
        whole = str(text)
    except Exception:
        return f"<{type(text).__name__} without text>"
    line = _SPACE.sub(" ", whole[: 4 * most])
    shown = "".join(char if char.isprintable() else _escaped(char) for char in line[: most + 1])
    return shown if len(shown) <= most else shown[: most - len(_MORE)] + _MORE


def shown(value: object, most: int = 80) -> str:
    r"""Return the ``repr`` of a value as one line of printable characters, also if its ``repr`` raises.

    Args:
        value: anything.
        most: characters that are kept; a longer text ends in "...".

    Example:
        >>> shown("two\nlines")
        "'two\\nlines'"
    """
    try:
        return printable(repr(value), most)
    except Exception:  # the repr of a foreign type may raise anything
        return f"<{type(value).__name__} without text>"


def error_line(error: BaseException) -> str:
    """Return an exception's type and message as one printable line, also if its ``str`` raises.

    Example:
        >>> error_line(KeyError("liver"))
        "KeyError: 'liver'"
    """
    text = printable(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # PEP 383: the undecodable byte 0x80 to 0xFF
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
