"""A Gymnasium benchmark for promptable 3D medical segmentation.

Importing it registers the environments with Gymnasium and costs nothing else: torch, SAM 2 and the readers
of volumes load with the first name that needs them. Arrays, shapes, clicks and spacing are always (z, y, x),
spacing in mm.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from synthfm_env.envs.registration import register_envs
from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click

if TYPE_CHECKING:
    from synthfm_env.envs.dataset_env import DatasetEnv
    from synthfm_env.envs.prompt_env import PromptEnv
    from synthfm_env.envs.synthetic_env import SyntheticEnv
    from synthfm_env.envs.volume_env import VolumeEnv
    from synthfm_env.segmenters import list_segmenters, make_segmenter
    from synthfm_env.segmenters.base import Capabilities, Prediction, Seconds, Segmenter, Session
    from synthfm_env.synthesis import SynthFM3D, list_recipes
    from synthfm_env.volumes import (
        Volume,
        bundled_volume,
        load_volume,
        save_mask,
        save_volume,
        to_uint8,
    )

# The module of each name that is imported when it is first used. Type checkers read the imports above instead.
_MODULES = {
    "Capabilities": "synthfm_env.segmenters.base",
    "DatasetEnv": "synthfm_env.envs.dataset_env",
    "PromptEnv": "synthfm_env.envs.prompt_env",
    "Prediction": "synthfm_env.segmenters.base",
    "Seconds": "synthfm_env.segmenters.base",
    "Segmenter": "synthfm_env.segmenters.base",
    "Session": "synthfm_env.segmenters.base",
    "SynthFM3D": "synthfm_env.synthesis",
    "SyntheticEnv": "synthfm_env.envs.synthetic_env",
    "Volume": "synthfm_env.volumes",
    "VolumeEnv": "synthfm_env.envs.volume_env",
    "bundled_volume": "synthfm_env.volumes",
    "list_recipes": "synthfm_env.synthesis",
    "list_segmenters": "synthfm_env.segmenters",
    "load_volume": "synthfm_env.volumes",
    "make_segmenter": "synthfm_env.segmenters",
    "save_mask": "synthfm_env.volumes",
    "save_volume": "synthfm_env.volumes",
    "to_uint8": "synthfm_env.volumes",
}

__all__ = [
    "Box",
    "Capabilities",
    "Click",
    "DatasetEnv",
    "InputError",
    "Prediction",
    "PromptEnv",
    "Seconds",
    "Segmenter",
    "Session",
    "SynthFM3D",
    "SyntheticEnv",
    "Volume",
    "VolumeEnv",
    "bundled_volume",
    "list_recipes",
    "list_segmenters",
    "load_volume",
    "make_segmenter",
    "save_mask",
    "save_volume",
    "to_uint8",
]

register_envs()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("synthfm_env")
    if name not in _MODULES:
        raise AttributeError(f"module 'synthfm_env' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
