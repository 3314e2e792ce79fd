"""Muon in float32, for CPUs on which torch's bfloat16 products are slow."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Float32Muon(torch.optim.Muon):
    """``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, whose matrix products run in float32.

    torch orthogonalises updates in bfloat16. A CPU without instructions for it emulates these products: one step of
    the packaged network takes 2 s there, and 0.1 s in float32. State and options are those of torch's class, so
    checkpoints of either load into the other.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the scale of the update is
    that of Liu et al., "Muon is Scalable for LLM Training", 2025 (arXiv:2502.16982).

    Example:
        >>> kernel = torch.nn.Parameter(torch.ones(8, 16))
        >>> optimizer = Float32Muon([kernel], lr=0.01, weight_decay=0.0, momentum=0.95)
        >>> kernel.sum().backward()
        >>> optimizer.step()
        >>> bool((kernel < 1).all())
        True
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a ``closure`` computes the loss again, and its result is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        # 1. Nesterov momentum.
        state, momentum = self.state[parameter], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(average, momentum) if group["nesterov"] else average
        # 2. The nearest orthogonal matrix, scaled to the size of an update of AdamW.
        direction = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        scale = 0.2 * max(parameter.shape) ** 0.5
        # 3. Weight decay and step.
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * scale)


def orthogonalised(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Return about the nearest matrix with orthonormal rows or columns, by the Newton-Schulz iteration.

    Args:
        matrix: float32 (n, m).
        coefficients: a, b, c of the quintic polynomial, which is applied to the singular values.
        steps: of the iteration. Muon's coefficients bring singular values to 0.7 to 1.2 in five.
        eps: smallest norm to divide by.

    Returns:
        float32 (n, m).
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
