"""Defines click protocols: frozen rules by which a simulated user clicks, each with a version and a hash."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation, clicks_in
from synthfm_agents.behaviour import behaviour_hash
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.error_regions import Voxel
from synthfm_env.prompts import Click


@dataclass(frozen=True, slots=True, eq=False)
class ClickContext:
    """Truth, mask and errors that a simulated user sees before a click.

    Attributes:
        truth: bool (D, H, W), the structure.
        mask: bool (D, H, W), the segmenter's answer so far.
        missed: bool (D, H, W), in the truth and not in the mask.
        false: bool (D, H, W), in the mask and not in the truth.
        clicks: placed so far, oldest first.
        spacing: voxel size (z, y, x) in mm.
    """

    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    false: NDArray[np.bool_]
    clicks: tuple[Click, ...]
    spacing: tuple[float, float, float]

    @property
    def clicked(self) -> list[Voxel]:
        """The voxels clicked so far."""
        return [click.zyx for click in self.clicks]


class ClickProtocol(Clicker):
    """Places the clicks of a simulated user, who sees the truth, by a rule.

    A subclass implements ``choose`` and passes its parameters to ``__init__`` here. A published rule is frozen: a rule
    that clicks differently gets a new name.

    Attributes:
        name: with its version, for example ``ritm-3d-v1``.
        rule: number that rises if a fault of the code is fixed under the same name.
        params: the parameters, read-only.

    Example:
        >>> from synthfm_agents import make_clicker
        >>> make_clicker("ritm-3d-v1").oracle
        True
    """

    oracle: ClassVar[bool] = True
    rule: ClassVar[int] = 1
    params: Mapping[str, Any]

    def __init__(self, **params: Any) -> None:
        self.params = MappingProxyType(params)

    @property
    def protocol_hash(self) -> str:
        """SHA-256, in hex, of name, params, rule and the clicks on fixed error maps; see ``behaviour_hash``."""
        about = {"name": self.name, "params": dict(self.params), "rule": self.rule}
        return behaviour_hash(type(self)(**self.params), about)

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the protocol's next click, or stop; see ``Clicker.act``."""
        truth, mask = self.truth(info), observation["mask"] != 0
        z, y, x = (float(size) for size in observation["spacing"])
        context = ClickContext(truth, mask, truth & ~mask, mask & ~truth, clicks_in(observation), (z, y, x))
        click = self.choose(context)
        return stop_action() if click is None else click_action(click)

    @abstractmethod
    def choose(self, context: ClickContext) -> Click | None:
        """Return the next click, or None to stop."""
