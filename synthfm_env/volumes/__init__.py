"""Reads, writes and preprocesses images with their truth."""

from synthfm_env.volumes.bundled import bundled_volume
from synthfm_env.volumes.intensity import to_uint8
from synthfm_env.volumes.nifti import load_volume, save_mask, save_volume
from synthfm_env.volumes.volume import MODALITIES, Volume

__all__ = [
    "MODALITIES",
    "Volume",
    "bundled_volume",
    "load_volume",
    "save_mask",
    "save_volume",
    "to_uint8",
]
