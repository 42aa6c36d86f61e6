"""The compiler, as training uses it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._functorch import config


def compiled(forward: Callable[..., Tensor], memory_budget: float = 1.0) -> Callable[..., Tensor]:
    """`forward`, compiled when it is first called, for inputs of one shape.

    Args:
        forward: What to compile.
        memory_budget: Share of what the compiler would keep for the backward pass that it may keep;
            the rest, spikes first, is made again.
    """
    run = torch.compile(forward, dynamic=False)

    def call(*inputs: Tensor) -> Tensor:
        with config.patch(activation_memory_budget=memory_budget):
            return run(*inputs)

    return call
