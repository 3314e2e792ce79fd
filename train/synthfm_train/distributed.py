"""Runs training in one process, or in several that Lightning Fabric starts and that share each step's volumes."""

import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.segmenters.devices import pick_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """A process of a training, with its connection to the others.

    Every process has the whole model, takes its share of each step's volumes, and makes the same update from the mean
    of all gradients. Gradients are averaged here, not by DistributedDataParallel, because a step calls several methods
    of the model, and the parts that it uses depend on the prompts drawn.

    Attributes:
        device: on which this process computes.
        rank: 0 to ``count`` - 1; the process of rank 0 logs, validates and writes the files.
        count: number of processes.
    """

    def __init__(self, device: torch.device, fabric: "Fabric | None" = None) -> None:
        self.device, self._fabric = device, fabric
        self.rank, self.count = (fabric.global_rank, fabric.world_size) if fabric else (0, 1)

    def average(self, gradients: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, with one all-reduce."""
        if self._fabric is None:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        mean = self._fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(mean, Tensor)
        parts = mean.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Return True if the flag is set in any process."""
        return any(self.gather([int(flag)]))

    def gather(self, numbers: list[int]) -> list[int]:
        """Return the numbers of all processes, in the order of ranks. Each process gives the same count of numbers."""
        if self._fabric is None:
            return numbers
        gathered = self._fabric.all_gather(torch.tensor(numbers, dtype=torch.int64, device=self.device))
        assert isinstance(gathered, Tensor)
        return gathered.flatten().tolist()

    def finish(self) -> None:
        """Wait for all processes. All but the first then exit with status 0."""
        if self._fabric is None:
            return
        self._fabric.barrier()
        torch.distributed.destroy_process_group()
        if self.rank:
            sys.exit(0)


def start_processes(device: str, count: int) -> Processes:
    """Start the processes of a training. Each one runs the whole command again.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or, for one process, a numbered one.
        count: number of processes, on CUDA one for each GPU.

    Raises:
        InputError: the machine does not have the device, or Lightning Fabric is not installed.
    """
    picked = pick_device(device)
    if count == 1:
        return Processes(picked)
    if picked.index is not None:
        raise InputError(f"--device {device} names one device; for {count} processes give --device {picked.type}")
    if picked.type == "cuda" and torch.cuda.device_count() < count:
        raise InputError(f"--devices {count}: this machine has {torch.cuda.device_count()} GPUs")
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise InputError(
            '--devices needs Lightning Fabric: pip install "synthfm_env[multigpu]", or train on one device'
        ) from None
    fabric = Fabric(accelerator=picked.type, devices=count, strategy="ddp")
    fabric.launch()
    return Processes(fabric.device, fabric)
