"""Whether a network answers the same question twice in the same way."""

import random
from contextlib import suppress
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch._functorch import config

from spikformer.errors import ConfigError, first_line
from spikformer.probe.subject import Subject
from spikformer.probe.trace import OUTPUT, Break, Trace, first_difference, largest_gap, trace
from spikformer.probe.verdict import TOLERANCE, Status, Verdict, broken

STATE = "no state is left behind"
RANDOM = "nothing is random in eval mode"
STATISTICS = "no batch statistics in eval mode"
COMPILED = "compiled as eager"


@runtime_checkable
class Resettable(Protocol):
    """What neurons with a state offer, SpikingJelly's among them."""

    def reset(self) -> None: ...


def reset(network: nn.Module) -> bool:
    """Call `reset()` of every module that has one, as SpikingJelly's `functional.reset_net` does.

    Returns:
        Whether any could be called: one that wants arguments is something else by the same name.
    """
    called = False
    for module in network.modules():
        if isinstance(module, Resettable):
            with suppress(Exception):  # of a stranger's code
                module.reset()
                called = True
    return called


def check_state(subject: Subject, frames: Tensor) -> Verdict:
    """A second call answers as the first. It may need `reset()` between them, and is told so."""
    network = subject.fresh()
    first, second = trace(subject, frames, network), trace(subject, frames, network)
    found = first_difference(first, second)
    if found is None:
        return Verdict(STATE, Status.PASSED, "a second call answers as the first")
    words = "a second call answers otherwise than the first"
    if reset(network) and first_difference(first, trace(subject, frames, network)) is None:
        words = f"{words}; reset() of its modules clears that: call it before every batch"
        return broken(STATE, words, found, Status.NOTICE)
    return broken(STATE, words, found)


def check_randomness(subject: Subject, frames: Tensor, base: Trace) -> Verdict:
    """Another seed changes nothing in eval mode, be it of the network's own generators."""
    found = first_difference(base, trace(subject, frames, seed=1))
    if found is not None:
        return broken(RANDOM, "another seed gives another answer: dropout may be alive", found)
    network = subject.fresh()
    if _reseed(network, seed=1):
        found = first_difference(base, trace(subject, frames, network))
    if found is not None:
        words = "another seed of its own generator gives another answer"
        return broken(RANDOM, words, found)
    return Verdict(RANDOM, Status.PASSED, "another seed changes nothing")


def _reseed(network: nn.Module, seed: int) -> bool:
    """Seed the generators that modules keep: copies of them draw alike, whatever the global seed.

    Returns:
        Whether there are any.
    """
    found = False
    for module in network.modules():
        for name, value in list(vars(module).items()):
            match value:
                case torch.Generator():
                    value.manual_seed(seed)
                case random.Random() | np.random.RandomState():
                    value.seed(seed)
                case np.random.Generator():
                    setattr(module, name, np.random.default_rng(seed))
                case _:
                    continue
            found = True
    return found


def check_statistics(base: Trace) -> Verdict:
    """No norm uses the statistics of the batch in eval mode."""
    if base.batch_statistics:
        words = f"norms use the statistics of the batch: {', '.join(base.batch_statistics[:3])}"
        return Verdict(STATISTICS, Status.FAILED, words, base.batch_statistics[0])
    return Verdict(STATISTICS, Status.PASSED, "norms use what they learnt, or there are none")


def check_compiled(subject: Subject, frames: Tensor, base: Trace) -> Verdict:
    """What `torch.compile` makes of the network answers as it does, in float64."""
    torch.compiler.reset()
    try:
        # The cache's key ignores decompositions: it may hold what an older kernel was.
        with config.patch(enable_autograd_cache=False), torch.no_grad():
            output = subject.call(subject.fresh(), frames, compiled=True)
    except Exception as error:
        said = error if isinstance(error, ConfigError) else first_line(error)
        return Verdict(COMPILED, Status.UNKNOWN, f"it does not compile here: {said}")
    gap = largest_gap(base.output, output)
    if not gap <= TOLERANCE * max(1.0, float(base.output.abs().max())):
        return broken(COMPILED, "the compiled network answers otherwise", Break(OUTPUT, gap))
    return Verdict(COMPILED, Status.PASSED, f"the largest difference in float64 is {gap:.1e}")
