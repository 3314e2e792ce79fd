"""Prepares the worker processes that make training data."""

import signal

import torch


def start_worker(worker: int) -> None:
    """Set one thread, and leave Ctrl-C to the process that the worker serves: its current step still needs data."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
