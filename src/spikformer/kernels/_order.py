"""Where the numbers of [T, ...] lie in memory: results lie as the current does.

A layer that wants channels innermost gets them so, and a piece of neurons is a slice.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PIECE = 1 << 16
"""Neurons a thread takes through all steps at a time: so many potentials stay in its cache."""


def stack_like(steps: Sequence[Tensor], current: Tensor) -> Tensor:
    """[T, ...] in the current's type, each step in the current's memory order."""
    order = memory_order(current)
    inner = [d - 1 for d in order[1:]]
    stacked = torch.stack([step.permute(inner).to(current.dtype) for step in steps])
    return stacked.permute(_inverse(order))


def order_like(step: Tensor, current: Tensor) -> Tensor:
    """The values of one step in the current's memory order; no copy where it is so already."""
    inner = [d - 1 for d in memory_order(current)[1:]]
    return step.permute(inner).contiguous().permute(_inverse(inner))


def steps_of(x: Tensor) -> list[Tensor]:
    """The steps, each a view of its own: the results of one `unbind` would be kept for the backward
    pass where compiled, although what they view could be computed again.
    """
    return [x[t] for t in range(x.shape[0])]


def pieces(neurons: Tensor) -> Iterator[slice]:
    """Neurons that are taken through all steps together."""
    count = neurons.shape[1]
    length = PIECE * torch.get_num_threads() if neurons.device.type == "cpu" else max(count, 1)
    return (slice(begin, begin + length) for begin in range(0, count, length))


def flat(steps: Tensor, order: list[int]) -> Tensor:
    """[T, neurons] in memory order."""
    return steps.permute(order).reshape(steps.shape[0], steps[0].numel())


def unflat(neurons: Tensor, order: list[int], like: Tensor) -> Tensor:
    shape = [like.shape[d] for d in order]
    return neurons.view(shape).permute(_inverse(order))


def empty_like_current(current: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    numbers = current.new_empty(current.numel(), dtype=dtype)
    return unflat(numbers, memory_order(current), current)


def memory_order(current: Tensor) -> list[int]:
    # Steps lie one after the other, whatever the current did: it may be one step expanded.
    return [0, *sorted(range(1, current.dim()), key=current.stride, reverse=True)]


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
