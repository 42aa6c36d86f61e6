"""Where two networks part: the first layer, step and neuron, and how near to the threshold it was.

Layers of neurons are compared in the order in which they ran. What came before the first
difference is equal, and what comes after it follows from it.
"""

import math
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.probe.neurons import potentials, twin
from spikformer.probe.subject import Subject
from spikformer.probe.trace import Trace, trace

TYPES = {"64": torch.float64, "32": torch.float32, "bf16": torch.float32, "16": torch.float32}
MIXED = {"bf16": torch.bfloat16, "16": torch.float16}
TOLERANCE = {"64": 1e-9, "32": 1e-4, "bf16": 5e-2, "16": 1e-2}
"""What logits may differ by, relative to those above 1, while every spike agrees."""


@dataclass(frozen=True)
class Side:
    """What one of the networks did where they part.

    Args:
        layer: Name of its layer.
        shape: Of the layer's neurons, for one step and sample.
        before: Kinds of the modules between the layer before, where both agree, and this one.
        spike: 0 or 1.
        current: What the neuron was given.
        potential: What it had then, before the reset; None for neurons whose equation is not known.
        above_threshold: The potential less the threshold.
    """

    layer: str
    shape: tuple[int, ...]
    before: tuple[str, ...]
    spike: float | None = None
    current: float | None = None
    potential: float | None = None
    above_threshold: float | None = None


@dataclass(frozen=True)
class Parting:
    """The first layer in which two networks differ.

    Args:
        place: Which of the compared layers it is, from 1.
        a: The first network there.
        b: The second.
        step: The first step, from 1; None, as all below, where not even the shapes agree.
        sample: The first sample of that step, from 0.
        neuron: The first neuron of that sample, an index into `a.shape`.
        spikes_that_differ: In all of the layer.
        spikes_share: The same, as a share of its neurons and steps.
    """

    place: int
    a: Side
    b: Side
    step: int | None = None
    sample: int | None = None
    neuron: tuple[int, ...] | None = None
    spikes_that_differ: int | None = None
    spikes_share: float | None = None


@dataclass(frozen=True)
class Difference:
    """Two networks side by side.

    Args:
        layers: How many layers of neurons were compared.
        silent: How many of them never fired: their agreement says little.
        only_a: Layers of the first that the other has nothing like.
        only_b: The same of the second.
        parting: Where spikes differ first. None when all agree.
        largest_logit_difference: Of their means over time.
        equal: No spike differs, and logits no more than their rounding.
    """

    layers: int
    silent: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    parting: Parting | None
    largest_logit_difference: float
    equal: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diff(
    a: Subject,
    b: Subject,
    frames: Float[Tensor, "B T *frame"],
    *,
    precisions: tuple[str, str] = ("64", "64"),
) -> Difference:
    """Run two networks on the same frames, and say where they part.

    Layers are paired by name when both have the same names, else by their order, leaving out those
    whose number of neurons finds no partner.

    Args:
        a: The first.
        b: The second.
        frames: What both see.
        precisions: What each computes in: `32`, `64`, or `bf16` and `16` for mixed precision.

    Raises:
        ConfigError: when a network cannot be run, or their logits have different classes.
    """
    runs = [_run(s, frames, p) for s, p in zip((a, b), precisions, strict=True)]
    pairs = _pairs(*runs)
    parting = _parting((a, b), runs, pairs)
    logits = [_mean_logits(run) for run in runs]
    if logits[0].shape != logits[1].shape:
        sizes = [[*x.shape] for x in logits]
        raise ConfigError(f"their logits have different shapes: {sizes[0]} and {sizes[1]}")
    gap = float((logits[0] - logits[1]).abs().max())
    allowed = max(TOLERANCE[p] for p in precisions) * max(1.0, float(logits[0].abs().max()))
    paired_a, paired_b = zip(*pairs, strict=True) if pairs else ((), ())
    return Difference(
        layers=len(pairs),
        silent=sum(not runs[0].layers[name].output.any() for name in paired_a),
        only_a=tuple(name for name in runs[0].neurons if name not in paired_a),
        only_b=tuple(name for name in runs[1].neurons if name not in paired_b),
        parting=parting,
        largest_logit_difference=gap,
        equal=parting is None and gap <= allowed,
    )


def _run(subject: Subject, frames: Tensor, precision: str) -> Trace:
    half = MIXED.get(precision)
    with torch.autocast("cpu", half, enabled=half is not None):
        return trace(subject, frames.to(TYPES[precision]))


def _pairs(a: Trace, b: Trace) -> list[tuple[str, str]]:
    """Layers of neurons that stand for each other."""
    if set(a.neurons) == set(b.neurons):
        return [(name, name) for name in a.neurons]
    if len(a.neurons) == len(b.neurons):
        return list(zip(a.neurons, b.neurons, strict=True))
    sizes = [[run.layers[name].output.numel() for name in run.neurons] for run in (a, b)]
    blocks = SequenceMatcher(None, *sizes, autojunk=False).get_matching_blocks()
    return [(a.neurons[i + k], b.neurons[j + k]) for i, j, length in blocks for k in range(length)]


def _parting(
    subjects: tuple[Subject, Subject], runs: list[Trace], pairs: list[tuple[str, str]]
) -> Parting | None:
    agreed: tuple[str | None, str | None] = None, None
    for place, names in enumerate(pairs, 1):
        kinds = _likeliest(runs, names)
        here = list(zip(subjects, runs, agreed, names, kinds, strict=True))
        a, b = (
            _readings(run, run.layers[name].output)[kind]
            for run, name, kind in zip(runs, names, kinds, strict=True)
        )
        differ = _differ(a, b)
        if differ is None:
            return Parting(place, _side(*here[0]), _side(*here[1]))
        if differ.any():
            step, sample, neuron = map(int, differ.nonzero()[0])
            at = step, sample, neuron
            return Parting(
                place,
                _side(*here[0], at),
                _side(*here[1], at),
                step=step + 1,
                sample=sample,
                neuron=_place(a, neuron),
                spikes_that_differ=int(differ.sum()),
                spikes_share=float(differ.double().mean()),
            )
        agreed = names
    return None


def _likeliest(runs: list[Trace], names: tuple[str, str]) -> tuple[str, str]:
    """How to read both of a pair: where a shape leaves a choice, so that they agree, or nearly.

    The field keeps neurons as [T, B, ...], [B, T, ...], [T B, ...] or [B T, ...].
    """
    a, b = (_readings(r, r.layers[name].output) for r, name in zip(runs, names, strict=True))

    def spikes_that_differ(kinds: tuple[str, str]) -> float:
        differ = _differ(a[kinds[0]], b[kinds[1]])
        return math.inf if differ is None else float(differ.sum())

    return min(product(a, b), key=spikes_that_differ)


def _readings(run: Trace, x: Tensor) -> dict[str, Tensor]:
    """As `Trace.readings_of`; what cannot be read is taken as it is."""
    return run.readings_of(x) or {"as it is": torch.atleast_2d(x)}


def _differ(a: Tensor, b: Tensor) -> Bool[Tensor, "T B neurons"] | None:
    """Which spikes differ, however the neurons of a sample are laid out; None for other numbers."""
    a, b = (x.reshape(*x.shape[:2], -1) for x in (a, b))
    return a != b if a.shape == b.shape else None


def _side(
    subject: Subject,
    run: Trace,
    since: str | None,
    name: str,
    kind: str,
    at: tuple[int, int, int] | None = None,
) -> Side:
    """What a network did in a layer; at one neuron of it, when there is one to look at."""
    layer = run.layers[name]
    spikes = _readings(run, layer.output)[kind]
    side = Side(name, tuple(spikes.shape[2:]), _between(subject.network, run, since, name))
    if at is None:
        return side
    where = (*at[:2], *_place(spikes, at[2]))
    side = replace(side, spike=float(spikes[where]))
    current = None if layer.input is None else _readings(run, layer.input).get(kind)
    if current is None or current.shape != spikes.shape:
        return side
    side = replace(side, current=float(current[where]))
    known = twin(subject.network.get_submodule(layer.module), current[: at[0] + 1])
    if known is None:
        return side
    neuron, current = known
    u = float(potentials(neuron, current)[where])
    above = u - neuron.options["threshold"]
    if (above >= 0) != bool(side.spike):  # it was not at rest, or its steps are other ones
        return side
    return replace(side, potential=u, above_threshold=above)


def _place(spikes: Tensor, neuron: int) -> tuple[int, ...]:
    """The index of the n-th neuron of a sample."""
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(neuron), spikes.shape[2:]))


def _between(network: nn.Module, run: Trace, since: str | None, layer: str) -> tuple[str, ...]:
    """Kinds of the innermost modules that ran after one layer and before another."""
    names = list(run.layers)
    start = 0 if since is None else names.index(since) + 1
    modules = dict(network.named_modules())
    ran = [modules[run.layers[name].module] for name in names[start : names.index(layer)]]
    kinds = [
        type(m).__name__ for m in ran if not [*m.children()] and not isinstance(m, nn.Identity)
    ]
    return tuple(kinds)


def _mean_logits(run: Trace) -> Tensor:
    output = run.output.double()
    return output.mean(0) if output.dim() > 2 else output
