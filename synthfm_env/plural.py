"""Writes a count with its noun."""


def plural(count: int, noun: str) -> str:
    """Return a count with a regular noun, in the plural unless the count is 1.

    Example:
        >>> plural(1, "case"), plural(3, "case")
        ('1 case', '3 cases')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
