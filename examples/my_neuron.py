"""A neuron of your own: no registration, no fork.

    spikformer train digits --model.neuron examples/my_neuron.py:ConstantLeak

A neuron is a module that is called with `threshold=` and maps currents [T, ...] to spikes [T, ...].
This one leaks a constant amount a step, where LIF leaks a share.
"""

import torch
from torch import Tensor, nn


class Step(torch.autograd.Function):
    """1 where x >= 0; its derivative is taken to be a triangle of width 2."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.clamp(1 - x.abs(), min=0)


class ConstantLeak(nn.Module):
    """Gains half the current, loses 0.1 a step, and resets to 0 when it fires."""

    def __init__(self, threshold: float = 1.0, leak: float = 0.1) -> None:
        super().__init__()
        self.threshold = threshold
        self.leak = leak

    def forward(self, current: Tensor) -> Tensor:
        wide = torch.promote_types(current.dtype, torch.float32)  # potentials deserve 24 bits
        v = torch.zeros_like(current[0], dtype=wide)
        spikes = []
        for x in current:
            u = torch.relu(v - self.leak) + x.to(wide) / 2
            s = Step.apply(u - self.threshold)
            v = u * (1 - s.detach())
            spikes.append(s.to(current.dtype))
        return torch.stack(spikes)
