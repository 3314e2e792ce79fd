"""Clicks on the grid cell that a network trained with PPO scores highest."""

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

    An image of any size is divided into 6 x 12 x 12 cells. The middles of the 64 cells whose grey differs most from its
    surroundings are the candidates, and none is clicked twice. From the grey, the mask and the clicks around each
    candidate, the network scores a positive and a negative click there, and it scores stopping. The clicker takes the
    action with the highest score. It does not know which structure is meant, so it collects conspicuous regions in one
    mask if that pays on average. It draws nothing at random.

    ``agents/ppo_clicker.py`` trained it and reports its scores. Running it needs torch alone.
    """

    name: ClassVar[str] = "ppo"

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the action with the highest score."""
        # Imported here, because torch takes seconds and other clickers do not need it.
        import torch

        from synthfm_agents.blind.ppo.network import network_input

        features, voxels = network_input(observation)
        with torch.inference_mode():
            logits, _ = _network()(torch.from_numpy(features)[None])
        return action_of(int(logits.argmax()), voxels)


def action_of(number: int, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Translate an action of the network into one of the environment.

    Args:
        number: 2 i for a negative click on candidate i, 2 i + 1 for a positive one, 2 n to stop.
        voxels: (n, 3), the candidates.
    """
    candidate, positive = divmod(number, 2)
    return (
        stop_action() if candidate == len(voxels) else click_action(Click(as_voxel(voxels[candidate]), bool(positive)))
    )


@cache
def _network() -> "ClickNet":
    """Return the packaged network, read once."""
    from safetensors.torch import load

    from synthfm_agents.blind.ppo.network import ClickNet

    network = ClickNet()
    network.load_state_dict(load((files("synthfm_agents") / "blind" / "ppo" / "ppo.safetensors").read_bytes()))
    return network.eval()
