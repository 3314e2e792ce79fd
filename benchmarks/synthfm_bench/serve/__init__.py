"""A server that makes any segmenter available in 3D Slicer and napari by nnInteractive's remote protocol.

``wire`` checks and reads packed arrays, ``messages`` reads JSON, ``viewer_session`` is one client's image and prompts,
``leases`` is who holds one, ``app`` maps the protocol's routes to them, ``guard`` refuses strangers.
"""
