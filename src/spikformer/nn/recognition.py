"""Which modules of a network are neurons, of any library."""

import re

from torch import nn

NEURON = "neuron"
"""How the name of every neuron of ours ends, whatever its class: `neuron`, or `value_neuron`."""
FOREIGN = {"BaseNode", "SimpleBaseNode", "SpikingNeuron"}
"""What neurons of SpikingJelly (the first two) and snnTorch inherit from."""
NOT_SPIKING = "NonSpiking"
NAMED_LIKE_ONE = re.compile(r"(IF|Neuron|Node)$")
"""How a class of one's own says what it is: `MyLIF`."""


def named_neurons(network: nn.Module) -> set[str]:
    """Modules that are neurons by their name or class."""
    named = {name for name, module in network.named_modules() if _is_neuron(name, module)}
    # Only the innermost: a block that ends with a neuron is named like one too.
    return {name for name in named if not any(other.startswith(f"{name}.") for other in named)}


def _is_neuron(name: str, module: nn.Module) -> bool:
    kinds = {kind.__name__ for kind in type(module).__mro__}
    if isinstance(module, nn.Identity) or any(kind.startswith(NOT_SPIKING) for kind in kinds):
        return False
    return (
        name.endswith(NEURON)
        or bool(kinds & FOREIGN)
        or bool(NAMED_LIKE_ONE.search(type(module).__name__))
    )
