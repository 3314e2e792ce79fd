"""Simulates a person: RITM's rule with an imprecise aim and sometimes a wrong sign."""

import math
from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_agents.protocols.ritm_3d import deeper_of
from synthfm_env.error_regions import deepest_voxel
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click

_TRIES = 16  # draws of the aim


class HumanNoise(ClickProtocol):
    """Oracle: RITM's click, moved by a Gaussian in mm and with a sign that slips; its parameters are guesses.

    1. The click is meant where ``ritm-3d-v1`` clicks: the deepest voxel of the error.
    2. It is moved along each axis by a normal draw of ``jitter_mm``. A person sees what they click on: if the voxel
       hit is not of the same error (missed for a positive click, false for a negative one), the draw is repeated, at
       most 16 times; then the click stays where it was meant.
    3. With the chance ``wrong_sign`` its sign is the other one.
    4. It stops where ``ritm-3d-v1`` stops.

    **The defaults are guesses, not fitted to people**: a jitter of 3 mm and one wrong sign in fifty clicks. They were
    set without a recording of a person (2026-11-29), and this rule itself simulated the packaged recording.
    ``benchmarks/studies/people.py`` fits both to records of people; a fitted rule gets a new name.

    Source: this project's own.

    Args:
        jitter_mm: standard deviation of the aim along each axis, in mm, 0 or more.
        wrong_sign: share of clicks whose sign slips, in [0, 1].

    Raises:
        InputError: a value out of its range.
    """

    name: ClassVar[str] = "human-noise-v1"

    def __init__(self, jitter_mm: float = 3.0, wrong_sign: float = 0.02) -> None:
        if not (math.isfinite(jitter_mm) and jitter_mm >= 0):
            raise InputError(f"clicker {self.name!r} got jitter_mm={jitter_mm}: expected a length of 0 or more")
        if not 0 <= wrong_sign <= 1:
            raise InputError(f"clicker {self.name!r} got wrong_sign={wrong_sign}: expected a share from 0 to 1")
        super().__init__(jitter_mm=float(jitter_mm), wrong_sign=float(wrong_sign))
        self._jitter = float(jitter_mm)
        self._wrong_sign = float(wrong_sign)

    def choose(self, context: ClickContext) -> Click | None:
        """Return RITM's click with a person's imprecision."""
        meant = deeper_of(deepest_voxel(context.missed, context.clicked), deepest_voxel(context.false, context.clicked))
        if meant is None:
            return None
        aimed = self._aimed(meant, context)
        slips = bool(self.rng.random() < self._wrong_sign)
        return Click(aimed, meant.positive != slips)

    def _aimed(self, meant: Click, context: ClickContext) -> tuple[int, int, int]:
        """Return the voxel that is hit, in (z, y, x)."""
        error = context.missed if meant.positive else context.false
        for _ in range(_TRIES):
            moved = np.rint(self.rng.normal(0.0, self._jitter, 3) / context.spacing).astype(int)
            z, y, x = np.clip(np.add(meant.zyx, moved), 0, np.subtract(error.shape, 1)).tolist()
            if error[z, y, x]:
                return z, y, x
        return meant.zyx
