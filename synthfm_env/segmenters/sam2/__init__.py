"""SAM 2 as an interactive 3D segmenter: encode a volume once, answer each click by propagation."""

from synthfm_env.segmenters.sam2.model import Architecture, build_model, set_image_size
from synthfm_env.segmenters.sam2.segmenter import SAM2Segmenter, pick_device
from synthfm_env.segmenters.sam2.weights import load_weights

__all__ = ["Architecture", "SAM2Segmenter", "build_model", "load_weights", "pick_device", "set_image_size"]
