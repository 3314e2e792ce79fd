"""How the learning rate goes over a phase."""

import math
from typing import Protocol


class Plan(Protocol):
    """So many steps, the first of them with a rising rate, and the share of it that is left at the end."""

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def warmup(self) -> int: ...  # noqa: D102

    @property
    def final_lr(self) -> float: ...  # noqa: D102


def schedule(plan: Plan, step: int) -> float:
    """Return the share of the full rate: a linear rise, then half a cosine down."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    share = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.final_lr + (1 - plan.final_lr) * 0.5 * (1 + math.cos(math.pi * share))
