"""Whether samples are computed apart from each other, and steps apart from later ones."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.probe.subject import Subject
from spikformer.probe.trace import (
    OUTPUT,
    TIMELESS,
    Part,
    Trace,
    first_break,
    largest_gap,
    trace,
)
from spikformer.probe.verdict import TOLERANCE, Status, Verdict, broken

NEIGHBOURS = "neighbours do not matter"
ALONE = "alone as in a batch"
CAUSAL = "later steps do not matter"
EVERYTHING = slice(None)


def check_neighbours(subject: Subject, frames: Tensor, base: Trace) -> Verdict:
    """Every sample, not only the first, is unmoved when all others are replaced."""
    pairs, moved = [], False
    for sample in range(len(frames)):
        others = subject.frames(len(frames), seed=2 + sample)
        others[sample] = frames[sample]
        run = trace(subject, others)
        here = slice(sample, sample + 1)
        pairs.append((Part(base, here), Part(run, here)))
        moved |= largest_gap(base.output, run.output) > TOLERANCE
    found, _ = first_break(pairs, TOLERANCE)
    if found is not None:
        words = "a sample moves when the others in its batch are replaced"
        return broken(NEIGHBOURS, words, found)
    if not moved:
        words = "the output is the same whatever comes in: the neurons may be silent"
        return Verdict(NEIGHBOURS, Status.UNKNOWN, words)
    words = f"each of {len(frames)} samples stays when the others are replaced"
    return Verdict(NEIGHBOURS, Status.PASSED, words)


def check_alone(subject: Subject, frames: Tensor, base: Trace) -> Verdict:
    """Every sample does alone what it does in a batch."""
    try:
        runs = [trace(subject, frame[None]) for frame in frames]
    except ConfigError as error:
        return Verdict(ALONE, Status.UNKNOWN, f"with one sample {error}")
    pairs = [
        (Part(base, slice(sample, sample + 1)), Part(run, EVERYTHING))
        for sample, run in enumerate(runs)
    ]
    found, _ = first_break(pairs, TOLERANCE)
    if found is not None:
        return broken(ALONE, "a sample does something else alone than in a batch", found)
    return Verdict(ALONE, Status.PASSED, f"each of {len(frames)} samples does the same alone")


def check_causality(subject: Subject, frames: Tensor, base: Trace) -> Verdict:
    """The first t steps equal a run of t steps, for every t < T."""
    if subject.time_axis is None:
        return Verdict(CAUSAL, Status.UNKNOWN, "still images have no later steps to leave out")
    if subject.steps == 1:
        return Verdict(CAUSAL, Status.UNKNOWN, "one step has none before it: give more steps")
    try:
        runs = [trace(subject, frames[:, :steps]) for steps in range(1, subject.steps)]
    except ConfigError as error:
        return Verdict(CAUSAL, Status.UNKNOWN, f"with fewer steps {error}")
    pairs = [(Part(base, EVERYTHING, run.steps), Part(run, EVERYTHING)) for run in runs]
    found, compared = first_break(pairs, TOLERANCE, timed=True)
    if found is not None:
        words = "the first steps of a run are not those of a shorter run: it looks ahead"
        if _looks_ahead_by_design(subject):
            return broken(CAUSAL, f"{words}, as a part of it declares", found, Status.NOTICE)
        return broken(CAUSAL, words, found)
    if not compared:
        words = "neither the output nor any layer has an axis of time"
        return Verdict(CAUSAL, Status.UNKNOWN, words)
    if OUTPUT not in compared and (hidden := _hidden(base, runs, compared)):
        more = f" and {len(hidden) - 3} more" if len(hidden) > 3 else ""
        words = (
            f"{len(compared)} inner layers equal those of every shorter run, but these cannot be "
            f"compared: {', '.join(hidden[:3])}{more}; return logits of every step, [T, B, K]"
        )
        return Verdict(CAUSAL, Status.UNKNOWN, words)
    seen = "the output of every step" if OUTPUT in compared else f"{len(compared)} inner layers"
    words = f"{seen} equals that of every shorter run, 1 to {subject.steps - 1} steps"
    return Verdict(CAUSAL, Status.PASSED, words)


def _hidden(base: Trace, runs: Sequence[Trace], compared: Sequence[str]) -> list[str]:
    """Layers that may look ahead unseen, because they have no axis of time to be compared by.

    Those do not that are the same in runs of any length, or that summarise a layer that was
    compared over its steps, or that were given no more than such a summary.
    """
    known = [x for name in compared for x in _summaries(base.readings(name))]
    hidden = []
    for name, layer in base.layers.items():
        if name in compared:
            continue
        runs_alike = all(
            name in run.layers and torch.equal(run.layers[name].output, layer.output)
            for run in runs
        )
        if runs_alike or _among(layer.output, known) or _among(layer.input, known):
            known.append(layer.output)
        else:
            hidden.append(name)
    return hidden


def _summaries(readings: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """What networks make of all steps: mean, sum or last; then a mean over pixels or tokens."""
    for kind, x in readings.items():
        if kind != TIMELESS:
            for summary in (x.mean(0), x.sum(0), x[-1]):
                yield summary
                if summary.dim() > 2:
                    yield from (summary.flatten(2).mean(2), summary.mean(1))


def _among(x: Tensor | None, known: Sequence[Tensor]) -> bool:
    return x is not None and any(
        len(x) == len(other)
        and x.numel() == other.numel()
        and largest_gap(x.flatten(), other.flatten()) <= TOLERANCE * max(1.0, float(x.abs().max()))
        for other in known
        if x.dim() and x.numel()
    )


def _looks_ahead_by_design(subject: Subject) -> bool:
    return any(not getattr(module, "causal", True) for module in subject.network.modules())
