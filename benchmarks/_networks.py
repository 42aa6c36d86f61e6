"""The networks that are compared, ours and SpikingJelly's, and the proof that they are the same."""

from collections.abc import Callable

import torch
from torch import nn

from spikformer.bench.preparation import enliven
from spikformer.bench.spikingjelly import Stateless, give_weights, move_pools
from spikformer.training._compiling import compiled

CONTENDERS = (
    "ours, eager",
    "ours, compiled",
    "ours, compiled, memory budget 0.9",
    "spikingjelly, eager",
    "spikingjelly, compiled",
    "spikingjelly channels-last, eager",
    "spikingjelly channels-last, compiled",
)
"""Library, and how it runs: a key of `BUILD` and one of `COMPILE`."""
CLASSES = 10


def build_ours() -> nn.Module:
    """Spikformer-4-384, [B, 3, 32, 32] to logits [B, 10]."""
    from spikformer.models import create_model

    torch.manual_seed(0)
    network = create_model("spikformer_4_384_patch4", num_classes=CLASSES)
    _enliven(network)
    return network.to(memory_format=torch.channels_last)


def build_spikingjelly() -> Stateless:
    """The same of SpikingJelly."""
    from spikingjelly.activation_based.model.spikformer import spikformer_cifar10

    torch.manual_seed(0)
    network = Stateless(spikformer_cifar10(T=4, num_classes=CLASSES))
    _enliven(network)
    return network


BUILD: dict[str, Callable[[], nn.Module]] = {
    "ours": build_ours,
    "spikingjelly": build_spikingjelly,
    "spikingjelly channels-last": lambda: build_spikingjelly().to(
        memory_format=torch.channels_last
    ),
}


def _in_less_memory(network: nn.Module) -> None:
    network.forward = compiled(network.forward, memory_budget=0.9)


COMPILE: dict[str, Callable[[nn.Module], None]] = {
    "eager": lambda _: None,
    "compiled": lambda network: network.compile(dynamic=False),
    "compiled, memory budget 0.9": _in_less_memory,
}


def _enliven(network: nn.Module) -> None:
    enliven(network, torch.randn(16, 3, 32, 32))


def check_same_function() -> float:
    """The largest difference of the libraries' logits in float64, where none may be.

    SpikingJelly pools currents, the authors and we pool spikes: for this check, and for this alone,
    its pools are moved behind its neurons.

    Raises:
        SystemExit: when they differ.
    """
    ours, theirs = build_ours(), build_spikingjelly()
    give_weights(ours, theirs.network)
    move_pools(theirs.network)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        logits, others = (network.double().eval()(images) for network in (ours, theirs))
    difference = (logits - others).abs().max().item()
    if not difference < 1e-9 or logits.std() < 1e-3:
        raise SystemExit(f"logits differ by {difference}: nothing is timed")
    return difference
