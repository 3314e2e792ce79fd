"""Shares one segmenter between all that ask for the same name."""

from functools import lru_cache

from synthfm_env.segmenters.base import Segmenter
from synthfm_env.segmenters.registry import make_segmenter


@lru_cache(maxsize=4)
def shared_segmenter(name: str) -> Segmenter:
    """Return the segmenter of a name or path, built once a process; the four used last are kept.

    Raises:
        InputError: as ``make_segmenter``.
    """
    return make_segmenter(name)
