"""Which modules are neurons, of any library, and how far from firing they were."""

import copy
import re

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.nn.neurons import Neuron
from spikformer.probe.rates import NEURON

FOREIGN = {"BaseNode", "SimpleBaseNode", "SpikingNeuron"}
"""What neurons of SpikingJelly (the first two) and snnTorch inherit from."""
NOT_SPIKING = "NonSpiking"
NAMED_LIKE_ONE = re.compile(r"(IF|Neuron|Node)$")
"""How a class of one's own says what it is: `MyLIF`."""
UNREACHABLE = 1e30
"""A threshold."""
NEARLY = 1e-3
"""A number this close to 0 or 1 was meant to be it: `hard + soft - soft.detach()` gives 0.99999994."""


def named_neurons(network: nn.Module) -> set[str]:
    """Modules that are neurons by their name or class."""
    named = {name for name, module in network.named_modules() if _is_neuron(name, module)}
    # Only the innermost: a block that ends with a neuron is named like one too.
    return {name for name in named if not any(other.startswith(f"{name}.") for other in named)}


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


def _is_neuron(name: str, module: nn.Module) -> bool:
    kinds = {kind.__name__ for kind in type(module).__mro__}
    if isinstance(module, nn.Identity) or any(kind.startswith(NOT_SPIKING) for kind in kinds):
        return False
    return (
        name.endswith(NEURON)
        or bool(kinds & FOREIGN)
        or bool(NAMED_LIKE_ONE.search(type(module).__name__))
    )
