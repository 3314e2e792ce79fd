"""SAM 2 as an interactive 3D segmenter: encode a volume once, answer each click by propagation."""

from synthfm_env.segmenters.sam2.architecture import Architecture, build_model, seeded, set_image_size
from synthfm_env.segmenters.sam2.checkpoints import OFFICIAL, build_official, load_weights, trained_here
from synthfm_env.segmenters.sam2.options import FAST, FULL, EngineOptions
from synthfm_env.segmenters.sam2.segmenter import SAM2Segmenter
from synthfm_env.segmenters.weights_file import fill

__all__ = [
    "FAST",
    "FULL",
    "OFFICIAL",
    "Architecture",
    "EngineOptions",
    "SAM2Segmenter",
    "build_model",
    "build_official",
    "fill",
    "load_weights",
    "seeded",
    "set_image_size",
    "trained_here",
]
