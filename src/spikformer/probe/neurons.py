"""What neurons give away: spikes where there were none, and how far from firing they were."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.nn.neurons import Neuron

UNREACHABLE = 1e30
"""A threshold."""
NEARLY = 1e-3
"""A number this close to 0 or 1 was meant to be it: `hard + soft - soft.detach()` gives 0.99999994."""


def binarises(x: Tensor | None, output: Tensor) -> bool:
    """Whether a module made 0 and 1, or nearly, of other numbers: a neuron, whatever its name."""
    if x is None or not output.is_floating_point():
        return False
    fired, silent = (output - 1).abs() <= NEARLY, output.abs() <= NEARLY
    both = bool(fired.any() and silent.any() and (fired | silent).all())
    return both and distance_from_spikes(x) > NEARLY


def distance_from_spikes(output: Tensor) -> float:
    """The largest distance of a number from 0 and 1, whichever is nearer."""
    return float(torch.minimum(output.abs(), (output - 1).abs()).max())


def potentials(neuron: Neuron, current: Float[Tensor, " T *step"]) -> Float[Tensor, " T *step"]:
    """The potential $u$ of each step before the reset, in the unit of the current."""
    silent = copy.copy(neuron)
    # One that cannot fire ends a step with the potential that the other has before its reset.
    silent.options = neuron.options | {"threshold": UNREACHABLE}
    before, v = [], None
    with torch.no_grad():
        for x in current.split(1):
            before.append(silent.integrate(x, v)[1])
            v = neuron.integrate(x, v)[1]
    return torch.stack(before)
