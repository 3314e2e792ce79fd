"""A clicker that learned where to click."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.error_regions import as_voxel
from synthfm_env.prompts import Click

if TYPE_CHECKING:
    from synthfm_agents.blind.ppo.network import ClickNet


class LearnedClicker(Clicker):
    """Blind: clicks where a small network, trained with PPO on synthetic volumes, expects most (``ppo``).

    The image falls into 6 x 12 x 12 cells, whatever its size. The 64 that stand out most in grey may be clicked, in the
    middle, none twice. The network sees the grey, mask and clicks around each, and gives it with either sign, and
    to stop, a score; the best is done. Nothing tells it which structure is meant: it finds what stands out, and gathers
    that in one mask where this pays on average. There is no chance in it.

    ``agents/ppo_clicker.py`` trained it and says what it reaches; running it needs torch alone.
    """

    name: ClassVar[str] = "ppo"

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click of the best score, or stop."""
        # Imported here, because torch takes seconds and the other clickers do without.
        import torch

        from synthfm_agents.blind.ppo.network import see

        seen, voxels = see(observation)
        with torch.inference_mode():
            logits, _ = _network()(torch.from_numpy(seen)[None])
        return action_of(int(logits.argmax()), voxels)


def action_of(number: int, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the action of an environment that an action of the network is: one of (n, 3) voxels clicked, or stop."""
    candidate, positive = divmod(number, 2)
    return (
        stop_action() if candidate == len(voxels) else click_action(Click(as_voxel(voxels[candidate]), bool(positive)))
    )


@cache
def _network() -> "ClickNet":
    from safetensors.torch import load

    from synthfm_agents.blind.ppo.network import ClickNet

    network = ClickNet()
    network.load_state_dict(load((files("synthfm_agents") / "blind" / "ppo" / "ppo.safetensors").read_bytes()))
    return network.eval()
