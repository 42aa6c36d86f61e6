"""Whether neurons emit spikes, whether they fire at all, and whether everything can learn."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spikformer.errors import ConfigError, first_line
from spikformer.probe.neurons import distance_from_spikes
from spikformer.probe.subject import Subject
from spikformer.probe.trace import Break, Trace
from spikformer.probe.verdict import Status, Verdict, broken

SPIKES = "neurons emit 0 and 1"
FIRE = "neurons fire"
GRADIENTS = "every parameter gets a gradient"


def check_spikes(base: Trace) -> Verdict:
    """Neurons emit 0 and 1, and nothing else."""
    neurons = base.neurons
    if not neurons:
        return Verdict(SPIKES, Status.UNKNOWN, "no layer looks like a neuron")
    for name in neurons:
        distance = distance_from_spikes(base.layers[name].output)
        if distance != 0:
            words = "a neuron emits other numbers than 0 and 1"
            return broken(SPIKES, words, Break(name, distance))
    return Verdict(SPIKES, Status.PASSED, f"exactly, in all {len(neurons)} layers of neurons")


def check_silence(base: Trace) -> Verdict:
    """Every layer of neurons fires. Silent ones are no failure, but what they pass proves little."""
    neurons = base.neurons
    silent = _silent(base)
    if not neurons:
        return Verdict(FIRE, Status.UNKNOWN, "no layer looks like a neuron")
    if silent:
        words = f"{len(silent)} of {len(neurons)} layers are silent: little is proved about those"
        return Verdict(FIRE, Status.NOTICE, words, silent[0])
    return Verdict(FIRE, Status.PASSED, f"all {len(neurons)} layers do")


def check_gradients(subject: Subject, frames: Tensor, base: Trace) -> Verdict:
    """Every parameter gets a gradient in train mode: finite, and not 0 everywhere."""
    network = subject.fresh().train()
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not learning:
        return Verdict(GRADIENTS, Status.UNKNOWN, "it has no parameters that learn")
    try:
        _backward(subject, network, frames)
    except ConfigError as error:
        return Verdict(GRADIENTS, Status.UNKNOWN, f"in train mode {error}")
    except RuntimeError as error:
        return Verdict(GRADIENTS, Status.FAILED, f"the backward pass fails: {first_line(error)}")
    for status, words, wrong in (
        (Status.FAILED, "gets none", _without(learning)),
        (Status.FAILED, "gets one that is not finite", _not_finite(learning)),
        (_if_all_fire(base), "gets one that is 0 everywhere", _zero(learning)),
    ):
        if wrong:
            said = f"{wrong[0]} {words}, one of {len(wrong)} among {len(learning)} parameters"
            return Verdict(GRADIENTS, status, said, wrong[0].rpartition(".")[0] or wrong[0])
    return Verdict(GRADIENTS, Status.PASSED, f"all {len(learning)} do")


@torch.enable_grad()
def _backward(subject: Subject, network: nn.Module, frames: Tensor) -> None:
    output = subject.call(network, frames)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    (output * weights.to(output)).sum().backward()


def _silent(base: Trace) -> list[str]:
    return [name for name in base.neurons if not base.layers[name].output.any()]


def _if_all_fire(base: Trace) -> Status:
    """What a gradient of 0 means: behind silent neurons it may be right."""
    return Status.UNKNOWN if _silent(base) else Status.FAILED


def _without(parameters: Mapping[str, Tensor]) -> list[str]:
    return [name for name, p in parameters.items() if p.grad is None]


def _not_finite(parameters: Mapping[str, Tensor]) -> list[str]:
    return [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]


def _zero(parameters: Mapping[str, Tensor]) -> list[str]:
    """A bias is spared where its weight learns: the norm behind it takes away what it adds."""
    zero = [name for name, p in parameters.items() if p.grad is not None and not p.grad.any()]
    return [
        name
        for name in zero
        if not name.endswith(".bias")
        or (weight := f"{name.removesuffix('bias')}weight") not in parameters
        or weight in zero
    ]
