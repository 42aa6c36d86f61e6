"""What neurons give away: spikes where there were none, and how far from firing they were."""

import copy
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.neurons import IF, LIF, Neuron

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


@runtime_checkable
class Node(Protocol):
    """SpikingJelly's `IFNode`: $u_t = v_{t-1} + x_t$."""

    v: float | Tensor
    v_threshold: float
    v_reset: float | None


@runtime_checkable
class LeakyNode(Node, Protocol):
    r"""SpikingJelly's `LIFNode`: ours, or with $x_t$ in place of $x_t / \tau$ in its equation."""

    tau: float
    decay_input: bool


def twin(
    neuron: nn.Module, current: Float[Tensor, " T *step"]
) -> tuple[Neuron, Float[Tensor, " T *step"]] | None:
    """The neuron of ours, and its current, that has the potentials of another at rest.

    None for one whose equation is not known.
    """
    if isinstance(neuron, Neuron):
        return neuron, current
    if not isinstance(neuron, Node) or isinstance(neuron.v, Tensor):  # a state is no rest
        return None
    firing = {"threshold": neuron.v_threshold, "v_reset": neuron.v_reset}
    try:
        match type(neuron).__name__:  # not what inherits from it: its equation may be another
            case "IFNode":
                return IF(**firing), current
            case "LIFNode" if isinstance(neuron, LeakyNode):
                scale = 1.0 if neuron.decay_input else neuron.tau
                return LIF(tau=neuron.tau, **firing), current * scale
    except ConfigError:  # it breaks a rule of ours, a threshold below its reset say
        return None
    return None
