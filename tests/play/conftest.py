"""Lets tests import ``play.games``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
