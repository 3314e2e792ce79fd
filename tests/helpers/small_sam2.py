"""Provides a small SAM 2 with random weights."""

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor

from synthfm_env.segmenters.sam2 import Architecture, build_model, seeded

SMALL = Architecture(embed_dim=16, stages=(1, 1, 2, 1), global_att_blocks=(3,), d_model=32, mem_dim=16, image_size=64)


def make_model() -> SAM2VideoPredictor:
    """Return random weights whose object score is always positive: else every logit is -1024 and parity is vacuous."""
    with seeded(3):
        model = build_model(SMALL)
    score = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    torch.nn.init.zeros_(score.weight)
    torch.nn.init.ones_(score.bias)
    # A random SAM 2 draws almost flat masks that hardly depend on memory; larger weights make differences show.
    with torch.no_grad():
        for parameter in model.sam_mask_decoder.parameters():
            parameter.mul_(1.5)
    return model
