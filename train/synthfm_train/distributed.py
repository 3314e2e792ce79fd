"""One process, or several that Lightning Fabric starts and that share each step's volumes."""

import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.segmenters.devices import pick_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """One process among those that train one model.

    Every process holds the whole model, takes its share of each step's volumes, and makes the same update from the
    mean of all gradients. Gradients are averaged here rather than by DistributedDataParallel: the model is called
    through many of its methods, and which of its parts a step uses depends on the prompts drawn.

    Attributes:
        device: that this process computes on.
        rank: 0 to ``count`` - 1; number 0 logs, validates and writes the files.
        count: of processes.
    """

    def __init__(self, device: torch.device, fabric: "Fabric | None" = None) -> None:
        self.device, self._fabric = device, fabric
        self.rank, self.count = (fabric.global_rank, fabric.world_size) if fabric else (0, 1)

    def average(self, gradients: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one exchange."""
        if self._fabric is None:
            return
        flat = torch.cat([one.flatten() for one in gradients])
        mean = self._fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(mean, Tensor)
        for one, part in zip(gradients, mean.split([one.numel() for one in gradients]), strict=True):
            one.copy_(part.view_as(one))

    def any(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return any(self.gather([int(flag)]))

    def gather(self, numbers: list[int]) -> list[int]:
        """Return the numbers of all processes, as many from each, in the order of ranks."""
        if self._fabric is None:
            return numbers
        together = self._fabric.all_gather(torch.tensor(numbers, dtype=torch.int64, device=self.device))
        assert isinstance(together, Tensor)
        return together.flatten().tolist()

    def finish(self) -> None:
        """Wait for all; every process but the first ends here, with exit status 0."""
        if self._fabric is None:
            return
        self._fabric.barrier()
        torch.distributed.destroy_process_group()
        if self.rank:
            sys.exit(0)


def start_processes(device: str, count: int) -> Processes:
    """Start what trains: this process alone, or ``count`` of them, each running the command from its start.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or a numbered one; with several processes without a number.
        count: processes, on CUDA one for each GPU.

    Raises:
        InputError: a device that is not here, or Lightning Fabric is not installed.
    """
    picked = pick_device(device)
    if count == 1:
        return Processes(picked)
    if picked.index is not None:
        raise InputError(f"--device {device} names one device; for {count} processes say --device {picked.type}")
    if picked.type == "cuda" and torch.cuda.device_count() < count:
        raise InputError(f"--devices {count}: {torch.cuda.device_count()} GPUs are here")
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise InputError(
            '--devices needs Lightning Fabric: pip install "synthfm_env[multigpu]", or train on one device'
        ) from None
    fabric = Fabric(accelerator=picked.type, devices=count, strategy="ddp")
    fabric.launch()
    return Processes(fabric.device, fabric)
