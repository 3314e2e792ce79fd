"""Griffe extension: renders the section "Example:" of a docstring as code, as its plural "Examples:"."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renames the section when an object is loaded; the docstrings in memory change, the sources do not."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section of one object's docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
