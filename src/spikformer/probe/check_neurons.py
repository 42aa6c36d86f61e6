"""Whether neurons emit spikes, whether they fire at all, and whether everything can learn."""

import torch
from torch import Tensor

from spikformer.probe.neurons import distance_from_spikes, neuron_layers
from spikformer.probe.subject import Subject
from spikformer.probe.trace import Break, Trace
from spikformer.probe.verdict import Status, Verdict, broken


def check_spikes(subject: Subject, base: Trace) -> Verdict:
    """Neurons emit 0 and 1, and nothing else."""
    check = "neurons emit 0 and 1"
    neurons = neuron_layers(subject.network, base)
    if not neurons:
        return Verdict(check, Status.UNKNOWN, "no layer looks like a neuron")
    for name in neurons:
        distance = distance_from_spikes(base.layers[name].output)
        if distance != 0:
            words = "a neuron emits other numbers than 0 and 1"
            return broken(check, words, Break(name, distance))
    return Verdict(check, Status.PASSED, f"exactly, in all {len(neurons)} layers of neurons")


def check_silence(subject: Subject, base: Trace) -> Verdict:
    """Every layer of neurons fires. Silent ones are no failure, but what they pass proves little."""
    check = "neurons fire"
    neurons = neuron_layers(subject.network, base)
    silent = [name for name in neurons if not base.layers[name].output.any()]
    if not neurons:
        return Verdict(check, Status.UNKNOWN, "no layer looks like a neuron")
    if silent:
        words = f"{len(silent)} of {len(neurons)} layers are silent: little is proved about those"
        return Verdict(check, Status.NOTICE, words, silent[0])
    return Verdict(check, Status.PASSED, f"all {len(neurons)} layers do")


def check_gradients(subject: Subject, frames: Tensor) -> Verdict:
    """Every parameter gets a gradient in train mode: finite, and not 0 everywhere."""
    check = "every parameter gets a gradient"
    network = subject.fresh().train()
    with torch.enable_grad():
        output = subject.call(network, frames)
        if not output.requires_grad:
            return Verdict(check, Status.FAILED, "the output depends on no parameter that learns")
        weights = torch.randn_like(output, generator=torch.Generator().manual_seed(0))
        (output * weights).sum().backward()
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    for wrong, holds in (
        ("gets none", lambda g: g is None),
        ("gets one that is not finite", lambda g: g is not None and not g.isfinite().all()),
        ("gets one that is 0 everywhere", lambda g: g is not None and not g.any()),
    ):
        names = [n for n, p in parameters.items() if holds(p.grad)]
        names = [n for n in names if not _is_cancelled(n, parameters)]
        if names:
            words = f"{len(names)} of {len(parameters)} parameters: {names[0]} {wrong}"
            return Verdict(check, Status.FAILED, words, names[0].rpartition(".")[0] or names[0])
    return Verdict(check, Status.PASSED, f"all {len(parameters)} do")


def _is_cancelled(name: str, parameters: dict[str, torch.nn.Parameter]) -> bool:
    """Whether a norm takes away what this bias adds, so that 0 is its right gradient."""
    layer, _, kind = name.rpartition(".")
    bias, weight = parameters[name], parameters.get(f"{layer}.weight")
    zero = bias.grad is not None and not bias.grad.any()
    learns = weight is not None and weight.grad is not None and bool(weight.grad.any())
    return kind == "bias" and zero and learns
