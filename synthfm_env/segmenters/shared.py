"""Shares one segmenter between all environments that name the same one."""

from functools import lru_cache

from synthfm_env.segmenters.base import Segmenter
from synthfm_env.segmenters.registry import make_segmenter


@lru_cache(maxsize=4)
def shared_segmenter(name: str) -> Segmenter:
    """Return the segmenter of a name or path, built once in a process; the four used last are kept.

    Raises:
        InputError: as ``make_segmenter``.
    """
    return make_segmenter(name)
