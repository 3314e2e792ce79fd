"""Checks for authors of segmenters."""

from synthfm_env.testing.segmenter_checks import check_segmenter

__all__ = ["check_segmenter"]
