"""Images with their truth: reading, writing, preprocessing."""

from synthfm_env.volumes.preprocess import to_uint8
from synthfm_env.volumes.volume import MODALITIES, Volume

__all__ = ["MODALITIES", "Volume", "to_uint8"]
