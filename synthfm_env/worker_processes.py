"""Keeps worker processes from outliving their parent."""

import multiprocessing
import os
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process when its parent is gone; run it in a daemon thread. A killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
