"""Lets tests, and segmenters named in commands, import ``serve.running``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
