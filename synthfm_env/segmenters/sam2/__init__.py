"""SAM 2 as an interactive 3D segmenter: encode a volume once, answer each click by propagation."""

from synthfm_env.segmenters.sam2.architecture import Architecture, build_model, seeded, set_image_size
from synthfm_env.segmenters.sam2.checkpoints import load_weights, trained_here
from synthfm_env.segmenters.sam2.multiview.refiner import Draft, Refiner, load_refiner
from synthfm_env.segmenters.sam2.official_checkpoints import OFFICIAL, build_official
from synthfm_env.segmenters.sam2.segmenter import SAM2Segmenter
from synthfm_env.segmenters.weights_file import fill

__all__ = [
    "OFFICIAL",
    "Architecture",
    "Draft",
    "Refiner",
    "SAM2Segmenter",
    "build_model",
    "build_official",
    "fill",
    "load_refiner",
    "load_weights",
    "seeded",
    "set_image_size",
    "trained_here",
]
