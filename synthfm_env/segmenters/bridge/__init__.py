"""Play a model that lives in another Python, or in another language, over pipes and shared memory."""

from synthfm_env.segmenters.bridge.segmenter import BridgeSegmenter

__all__ = ["BridgeSegmenter"]
