"""The compiler, as training uses it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._functorch import config

MEMORY_BUDGET = 0.9
"""Share of what the forward pass makes that the backward pass may find kept. The tenth that goes is
spikes, which are made again from the currents: measured on a CPU, that costs no time."""


def compiled(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`forward`, compiled when it is first called, for inputs of one shape."""
    run = torch.compile(forward, dynamic=False)

    def call(*inputs: Tensor) -> Tensor:
        with config.patch(activation_memory_budget=MEMORY_BUDGET):
            return run(*inputs)

    return call
