"""What flowed into an operation: how many elements, how many of them silent, of which kind."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["binary", "integer", "float"]


@dataclass
class Operand:
    """Statistics of one input of an operation, over all that it saw.

    Args:
        elements: How many numbers there were.
        nonzero: How many of them were not 0.
        total: Sum of their absolute values; of spikes their number, of counts each with its weight.
        lowest: The smallest.
        highest: The largest.
        whole: Whether all were whole numbers.
    """

    elements: int = 0
    nonzero: int = 0
    total: float = 0.0
    lowest: float = field(default=float("inf"))
    highest: float = field(default=float("-inf"))
    whole: bool = True

    def see(self, x: Tensor) -> None:
        """Add a tensor's numbers."""
        if x.numel() == 0:
            return
        x = x if x.is_floating_point() else x.to(torch.float32)
        low, high = x.aminmax()
        whole = (x == x.round()).all()
        facts = torch.stack([f.double() for f in (x.count_nonzero(), low, high, whole)]).tolist()
        self.elements += x.numel()
        self.nonzero += int(facts[0])
        self.total += float(x.abs().sum(dtype=torch.float64))
        self.lowest, self.highest = min(self.lowest, facts[1]), max(self.highest, facts[2])
        self.whole &= bool(facts[3])

    @property
    def kind(self) -> Kind:
        """`binary`: every element 0 or 1; `integer`: whole numbers; `float`: anything else."""
        if not self.whole:
            return "float"
        return "binary" if self.lowest >= 0 and self.highest <= 1 else "integer"

    @property
    def rate(self) -> float:
        """Mean of the absolute values: spikes per neuron per step, where they are spikes or counts."""
        return self.total / self.elements if self.elements else 0.0

    @property
    def density(self) -> float:
        """Share of elements that are not 0."""
        return self.nonzero / self.elements if self.elements else 0.0

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.lowest), abs(self.highest)) if self.elements else 0.0


def kind_of(x: Tensor) -> Kind:
    """What a tensor holds."""
    seen = Operand()
    seen.see(x)
    return seen.kind
