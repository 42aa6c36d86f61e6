"""Neurons as a textbook writes them, for autograd to differentiate: what the operations must equal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikformer import kernels
from spikformer.kernels.surrogate import DERIVATIVES

WEIGHT = torch.tensor(-0.3)
"""Of the parametric neuron: its time constant is 1 + exp(0.3), about 2.35 steps."""


class _Step(torch.autograd.Function):
    """1 where x >= 0, else 0; its derivative is what the surrogate says."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, derivative: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.derivative = derivative
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.derivative(x), None


@dataclass(frozen=True)
class Neuron:
    """One of the operations, and the textbook's idea of it.

    Args:
        operation: Its name under `torch.ops.spikformer`.
        run: (current, v0, options) -> (spikes, potential).
        charge: (potential, current, rest) -> potential before the reset.
        extra: Inputs of the operation between the current and v0.
        constants: Inputs of the operation between v0 and the options of firing.
    """

    operation: str
    run: Callable[..., tuple[Tensor, Tensor]]
    charge: Callable[[Tensor, Tensor, float], Tensor]
    extra: tuple[Tensor, ...] = ()
    constants: tuple[float, ...] = ()

    def arguments(self, current: Tensor, v0: Tensor | None = None, *options: Any) -> tuple:
        """What `torch.ops.spikformer.<operation>` is called with."""
        return current, *self.extra, v0, *self.constants, *options

    def textbook(
        self,
        current: Tensor,
        v0: Tensor | None = None,
        *,
        threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: str = "sigmoid",
        alpha: float = 4.0,
    ) -> tuple[Tensor, Tensor]:
        """Spikes and the last potential, by the equations, one step after the other."""
        rest = v_reset or 0.0
        v = torch.full_like(current[0], rest) if v0 is None else v0
        spikes = []
        for x in current:
            u = self.charge(v, x, rest)
            s = _Step.apply(u - threshold, lambda d: DERIVATIVES[surrogate](d, alpha))
            reset = s.detach() if detach_reset else s
            v = u - threshold * reset if v_reset is None else (1 - reset) * u + reset * v_reset
            spikes.append(s)
        return torch.stack(spikes), v

    def __str__(self) -> str:
        return "_".join([self.operation, *map(str, self.constants)])


def _lif(tau: float) -> Neuron:
    return Neuron(
        "lif",
        lambda current, v0=None, **options: kernels.lif(current, v0, tau=tau, **options),
        lambda v, x, rest: v + (x - (v - rest)) / tau,
        constants=(tau,),
    )


def plif(weight: Tensor) -> Neuron:
    return Neuron(
        "plif",
        lambda current, v0=None, **options: kernels.plif(current, weight, v0, **options),
        lambda v, x, rest: v + torch.sigmoid(weight.to(v.dtype)) * (x - (v - rest)),
        extra=(weight,),
    )


IF = Neuron("if_", kernels.if_, lambda v, x, rest: v + x)
NEURONS = (IF, _lif(2.0), _lif(1.7), plif(WEIGHT))


def near_threshold(steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Currents [steps, 17] of which the middle column brings LIF to the threshold 1 in one step.

    Its neighbours miss or pass it by up to 8 units in the last place.
    """
    current = torch.full((17,), 2.0, dtype=dtype)
    for column in range(17):
        side = torch.tensor(0.0 if column < 8 else 4.0, dtype=dtype)
        for _ in range(abs(column - 8)):
            current[column] = torch.nextafter(current[column], side)
    return current.expand(steps, 17)


def layouts() -> dict[str, Tensor]:
    """Currents of five axes or fewer in every order of memory that networks produce."""
    images = torch.randn(4, 2, 6, 5, 3) * 2
    return {
        "contiguous": images,
        "one number a step": images[:, 0, 0, 0, 0],
        "one element": images[:1, :1, :1, :1, :1],
        "odd": torch.randn(5, 257) * 2,
        "channels last": images.permute(0, 1, 4, 2, 3),
        "one step repeated": images[:1].expand(4, -1, -1, -1, -1),
        "one step repeated, channels last": images[:1].expand(4, -1, -1, -1, -1).mT,
        "one sample repeated": images[:, :1].expand(-1, 3, -1, -1, -1),
        "sliced": images[..., ::2, :],
        "time inside": images.movedim(0, -1).contiguous().movedim(-1, 0),
        "batch first": images.transpose(0, 1).contiguous().transpose(0, 1),
    }
