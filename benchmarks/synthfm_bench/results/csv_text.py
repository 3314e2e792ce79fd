"""Writes CSV text in which no cell is a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

# A spreadsheet runs a cell that begins so; with ";" as its separator, also what follows one. Full-width signs count.
_FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    r"""Return lines of cells as CSV: numbers in full precision, None empty, text never a formula.

    An apostrophe is put before text that a spreadsheet would run.

    Example:
        >>> csv_text([("=1+1", -0.5, None)])
        "'=1+1,-0.5,\n"
    """
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    for line in lines:
        out.writerow([_FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell for cell in line])
    return text.getvalue()
