"""Scores of overlap, of surfaces in mm and of an episode's clicks, each defined once.

A mask that is empty if the truth is too is worth 1 in the scores of [0, 1]; where one of the two is empty, 0.
"""

from synthfm_env.metrics.episode_curves import clicks_to_target, normalised_auc, worst_drop
from synthfm_env.metrics.overlap import dice, iou
from synthfm_env.metrics.surface import Surfaces, hd95, nsd

__all__ = ["Surfaces", "clicks_to_target", "dice", "hd95", "iou", "normalised_auc", "nsd", "worst_drop"]
