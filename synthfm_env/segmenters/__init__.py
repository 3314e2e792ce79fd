"""Promptable models with one contract: encode an image once, prompt it many times."""

from synthfm_env.segmenters.base import Capabilities, Prediction, Seconds, Segmenter, Session
from synthfm_env.segmenters.registry import list_segmenters, make_segmenter, missing_for

__all__ = [
    "Capabilities",
    "Prediction",
    "Seconds",
    "Segmenter",
    "Session",
    "list_segmenters",
    "make_segmenter",
    "missing_for",
]
