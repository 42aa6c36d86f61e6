"""Whether samples are computed apart from each other, and steps apart from later ones."""

from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.probe.subject import Subject
from spikformer.probe.trace import OUTPUT, Part, Trace, first_break, largest_gap, trace
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
    seen = "the output of every step" if OUTPUT in compared else f"{len(compared)} inner layers"
    words = f"{seen} equals that of every shorter run, 1 to {subject.steps - 1} steps"
    return Verdict(CAUSAL, Status.PASSED, words)


def _looks_ahead_by_design(subject: Subject) -> bool:
    return any(not getattr(module, "causal", True) for module in subject.network.modules())
