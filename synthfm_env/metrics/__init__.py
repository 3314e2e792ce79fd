"""Scores of overlap, of surfaces in mm and of an episode's clicks, each defined once.

Scores in [0, 1] are 1 if mask and truth are both empty, and 0 if one of them is.
"""

from synthfm_env.metrics.episode_curves import clicks_to_target, normalised_auc, worst_drop
from synthfm_env.metrics.overlap import dice, iou
from synthfm_env.metrics.surface import Surfaces, hd95, nsd

__all__ = ["Surfaces", "clicks_to_target", "dice", "hd95", "iou", "normalised_auc", "nsd", "worst_drop"]
