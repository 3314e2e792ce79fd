"""Provides a device that computes on the CPU but has another name, which finds misplaced tensors without a GPU.

``Elsewhere`` tensors say that they are on ``meta``; any operation that mixes them with CPU tensors of more than one
value fails, as it does with CUDA.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")


class Elsewhere(torch.Tensor):
    """Holds its values in ``inner``, a CPU tensor."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Elsewhere":
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=DEVICE
        )
        self.inner = inner
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class ElsewhereGenerator(torch.Generator):
    """A CPU generator that claims another device."""

    def __new__(cls, device: Any = None) -> "ElsewhereGenerator":
        return super().__new__(cls, "cpu")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, _ = tree_flatten((args, kwargs))
    tensors = [t for t in flat if isinstance(t, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, Elsewhere)]
    copies = "_to_copy" in str(func) or "copy_" in str(func)
    if there and not copies:
        here = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim() > 0]
        assert not here, f"{func}: tensors on two devices, {[tuple(t.shape) for t in here]} on the CPU"
    target = kwargs.get("device")
    to = Elsewhere if (target is not None and torch.device(target) == DEVICE) or (there and target is None) else None
    plain_args = tree_map(lambda t: t.inner if isinstance(t, Elsewhere) else t, args)
    plain = {k: v.inner if isinstance(v, Elsewhere) else v for k, v in kwargs.items()}
    if target is not None:
        plain["device"] = "cpu"
    out = func(*plain_args, **plain)
    if to is None:
        return out
    by_inner = {id(t.inner): t for t in there}
    return tree_map(lambda t: by_inner.get(id(t), Elsewhere(t)) if isinstance(t, torch.Tensor) else t, out)


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _sent(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a factory from values, which torch does not send through dispatch."""

    def factory(values: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        made = make(values, **kwargs)
        return made if device is None else made.to(device)

    return factory


@contextmanager
def elsewhere() -> Iterator[str]:
    """Give the name of the device, for ``SynthFM3D(device=...)``, while the block runs."""
    with (
        _Factories(),
        mock.patch.object(torch, "Generator", ElsewhereGenerator),
        mock.patch.object(torch, "tensor", _sent(torch.tensor)),
        mock.patch.object(torch, "as_tensor", _sent(torch.as_tensor)),
    ):
        yield str(DEVICE)
