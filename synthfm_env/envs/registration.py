"""Registers the environment ids for ``gym.make``, when ``synthfm_env`` is imported."""

from typing import Any

import gymnasium as gym

_SYNTHETIC = "synthfm_env.envs.synthetic_env:SyntheticEnv"
_DATASET = "synthfm_env.envs.dataset_env:DatasetEnv"
_VECTOR = {
    _SYNTHETIC: "synthfm_env.envs.vector_env:SyntheticVectorEnv",
    _DATASET: "synthfm_env.envs.vector_env:DatasetVectorEnv",
    "synthfm_env.envs.volume_env:VolumeEnv": "synthfm_env.envs.vector_env:VolumeVectorEnv",
}

# Entry points are text and kwargs are JSON, so that `env.spec.to_json()` can go into every record.
ENVS: dict[str, tuple[str, dict[str, Any]]] = {
    "SynthFM/Synthetic3D-v0": (_SYNTHETIC, {"shape": [64, 128, 128], "recipe": "any"}),
    "SynthFM/Synthetic2D-v0": (_SYNTHETIC, {"shape": [1, 256, 256], "recipe": "synthfm2d"}),
    "SynthFM/Dataset-v0": (_DATASET, {"shape": [64, 128, 128], "spacing": [3.0, 3.0, 3.0]}),
    "SynthFM/Volume-v0": ("synthfm_env.envs.volume_env:VolumeEnv", {}),
}


def register_envs() -> None:
    """Register every id with Gymnasium; ids that are registered already stay as they are."""
    for env_id, (entry_point, kwargs) in ENVS.items():
        if env_id not in gym.registry:
            gym.register(id=env_id, entry_point=entry_point, vector_entry_point=_VECTOR[entry_point], kwargs=kwargs)
