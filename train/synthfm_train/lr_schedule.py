"""Computes the learning rate over a phase."""

import math
from typing import Protocol


class LrSchedule(Protocol):
    """Settings of a phase's schedule: its steps, its warm-up steps, and the share of the rate at its end."""

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def warmup(self) -> int: ...  # noqa: D102

    @property
    def final_lr(self) -> float: ...  # noqa: D102


def schedule(plan: LrSchedule, step: int) -> float:
    """Return the learning rate of a step as a share of the full one: linear warm-up, then a half cosine decay."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    share = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.final_lr + (1 - plan.final_lr) * 0.5 * (1 + math.cos(math.pi * share))
