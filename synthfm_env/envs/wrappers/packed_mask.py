"""Makes observations small enough to record thousands of them."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from synthfm_env.errors import InputError


class PackedMask(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Leave out the image and keep the mask as bits, eight voxels a byte, for recorded data.

    `observation["mask"]` becomes uint8 (ceil(D * H * W / 8),); `unpack_mask` undoes it. The image follows from the
    episode's seed.

    Args:
        env: one whose observations hold `image` and `mask`.

    Raises:
        InputError: they do not.

    Example:
        >>> from synthfm_env import SyntheticEnv
        >>> env = PackedMask(SyntheticEnv(segmenter="geodesic", shape=(8, 16, 16), recipe="clear"))
        >>> env.observation_space["mask"].shape
        (256,)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict) or not {"image", "mask"} <= space.keys():
            raise InputError(f"PackedMask needs observations with image and mask, but this one gives {space}")
        kept = {key: part for key, part in space.items() if key != "image"}
        size = -(-int(np.prod(space["mask"].shape or ())) // 8)
        self.observation_space = spaces.Dict({**kept, "mask": spaces.Box(0, 255, (size,), np.uint8)})

    def observation(self, observation: Any) -> Any:
        """Return the observation without image, its mask packed."""
        kept = {key: value for key, value in observation.items() if key != "image"}
        return {**kept, "mask": np.packbits(observation["mask"])}


def unpack_mask(bits: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the mask, uint8 (D, H, W), 0 or 1, of packed bits.

    Example:
        >>> mask = np.ones((1, 3, 3), np.uint8)
        >>> bool((unpack_mask(np.packbits(mask), mask.shape) == mask).all())
        True
    """
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)
