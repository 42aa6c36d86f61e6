"""What stands for a tensor of the model while its graph is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spikformer.export._axes import Axes
from spikformer.export.plan import Attention, Layer, Operation


@dataclass(frozen=True)
class Map:
    """A value of the plan, however its axes lie: T, B, C, H, W and what they are split into.

    Args:
        part: Which of Q, K and V it is cut down to.
        pool: Width in tokens of the max that was taken of it.
        mean: Whether some of its axes are averaged away.
    """

    name: str
    axes: Axes
    part: int | None = None
    pool: int = 1
    mean: bool = False


@dataclass(frozen=True)
class Current:
    """What a neuron is yet to make spikes of: a layer or an attention without one."""

    operation: Layer | Attention
    axes: Axes
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


class Reader(Protocol):
    """What rules may ask of, and tell, whoever reads the graph."""

    steps: int
    arrays: dict[str, np.ndarray]
    targets: dict[str, str]

    def of(self, argument: Any) -> Any:
        """What a node became; numbers and tensors as they are."""
        ...

    def array(self, argument: Any) -> np.ndarray:
        """A parameter's numbers, in float64."""
        ...

    def emit(self, operation: Operation) -> str:
        """Append to the plan; the name of what it writes."""
        ...

    def unused(self, name: str) -> str:
        """The name, or one like it that no operation has yet."""
        ...


Rule = Callable[[Reader, Any, Mapping[str, Any]], Any]


def is_whole(value: Any) -> bool:
    """Whether this is all of a value: no part of Q, K and V, no mean."""
    return isinstance(value, Map) and value.part is None and not value.mean


def is_image(axes: Axes) -> bool:
    """Whether these are [T B, C, H, W], however the first is folded."""
    if len(axes.groups) != 4:
        return False
    _, channels, height, width = axes.shape
    samples = {name for name, _ in axes.groups[0]} <= {"T", "B"}
    return samples and axes.groups[1:] == Axes.of(C=channels, H=height, W=width).groups
