"""Represents a person in records: the clicker ``human:ALIAS``, whose clicks come from a viewer."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation
from synthfm_env.errors import InputError

PREFIX = "human:"
Target = Literal["name", "glimpse", "outline"]
"""Ways to show a person the target: its name alone, its outline until the first click, or its outline throughout."""


class Person(Clicker):
    """A person who clicks in `synthfm play` or in a viewer connected to `synthfm serve`; told the target by name.

    Records contain an alias that the person chooses, and nothing else about them. `synthfm verify` replays the clicks
    from the records. No rule computes them, so `synthfm bench` refuses the name.

    Args:
        target: how the target was shown; the record contains it.
    """

    name: ClassVar[str] = "human"

    def __init__(self, target: Target = "name") -> None:
        self.target = target

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Raise InputError: a person clicks elsewhere."""
        raise InputError("human: a person clicks in `synthfm play`, no rule does; name another clicker")


class InformedPerson(Person):
    """A person who saw the target's outline, and so the truth."""

    oracle: ClassVar[bool] = True


def is_person(name: str) -> bool:
    """Return whether a clicker's name is that of a person."""
    return name.startswith(PREFIX)


def make_person(name: str, target: str = "name") -> Person:
    """Return the clicker of a person.

    Args:
        name: ``human:ALIAS``, the alias 1 to 32 letters, digits, dots, hyphens or underscores.
        target: how the target was shown, one of ``Target``.

    Raises:
        InputError: another name or target.

    Example:
        >>> make_person("human:anna", target="outline").oracle
        True
    """
    if not re.fullmatch(r"human:[\w.-]{1,32}", name, re.ASCII):
        raise InputError(
            f"alias {name.removeprefix(PREFIX)!r}: expected 1 to 32 letters, digits, dots, hyphens or underscores"
        )
    if target not in get_args(Target):
        raise InputError(f"target {target!r}: expected one of {', '.join(get_args(Target))}")
    kind = Person if target == "name" else InformedPerson
    return kind(target)  # type: ignore[arg-type]
