"""A bridge to models in another Python or another language, over pipes and shared memory."""

from synthfm_env.segmenters.bridge.segmenter import BridgeSegmenter

__all__ = ["BridgeSegmenter"]
