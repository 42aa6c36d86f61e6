"""Contenders take turns: each in its own process, all others waiting meanwhile."""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikformer.bench.contenders import BASELINE, CONTENDERS, Materials, Player
from spikformer.bench.processes import Failed, Remote, elsewhere

LEAST_ROUNDS = 3
PAUSE = 0.05
"""Seconds between turns, in which threads of the last one that still spin go to sleep."""
MOST_CHECKED = 32
"""Batches on which answers are compared: at batch 1 that is time enough."""
CACHE = "TORCHINDUCTOR_CACHE_DIR"
Yardstick = tuple[Any, ...]
"""What `elsewhere` builds, and from what: its `turn` tells speeds by name."""


@dataclass(frozen=True)
class Length:
    """How often contenders take turns.

    Args:
        rounds: At most.
        seconds: After which no new round begins, once there were three.
        runs: At batch 1, of all rounds together.
    """

    rounds: int = 9
    seconds: float = 240.0
    runs: int = 200


@dataclass(frozen=True)
class Result:
    """What one contender did at one batch size.

    Args:
        seconds: Of a run, for each round, its median.
        all_seconds: Of every run.
        first_seconds: From the start of its process to its first logits.
        answers: Logits [n, K] of the first images, before anything was timed.
        facts: Memory, see `Player.facts`.
    """

    seconds: list[float]
    all_seconds: list[float]
    first_seconds: float
    answers: np.ndarray
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Contest:
    """What happened at one batch size.

    Args:
        results: By contender.
        absent: Contender to one sentence why it could not run.
        products: Dense products to G multiply-accumulates/s of each round, see `Products`.
    """

    batch: int
    results: Mapping[str, Result]
    absent: Mapping[str, str]
    products: Mapping[str, list[float]]


def contest(
    materials: Materials,
    batch: int,
    names: Sequence[str],
    length: Length,
    say: Callable[[str], None],
    *,
    absent: Mapping[str, str],
    yardsticks: Sequence[Yardstick] = (),
) -> Contest:
    """Let all take turns on batches of one size, correctness first.

    Args:
        absent: Those that are known to be unable, and why.
        yardsticks: What takes turns too.
    """
    missing = dict(absent)
    found: dict[str, _Taking] = {}
    products: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_compilers_cache())
        for name in names:
            if name in missing:
                continue
            try:
                found[name] = _enter(stack, name, materials, batch, say)
            except Failed as failure:
                missing[name] = str(failure)
        measures = []
        for yardstick in yardsticks:
            say("warming up dense products")
            remote = stack.enter_context(elsewhere(*yardstick))
            try:
                remote.ask("turn")
                measures.append(remote)
            except Failed as failure:
                missing["dense products"] = str(failure)
        for turn in _rounds(length):
            say(f"round {turn + 1} of {length.rounds}")
            runs = -(-length.runs // length.rounds) if batch == 1 else 1
            for name in list(found):
                try:
                    time.sleep(PAUSE)
                    found[name].turns.append(found[name].player.ask("turn", runs))
                except Failed as failure:
                    missing[name] = str(failure)
                    del found[name]
            for remote in measures:
                time.sleep(PAUSE)
                for product, speed in remote.ask("turn").items():
                    products.setdefault(product, []).append(speed)
        results = {}
        for name, taking in found.items():
            try:
                results[name] = taking.result()
            except Failed as failure:
                missing[name] = str(failure)
    return Contest(batch, results, missing, products)


@dataclass
class _Taking:
    """A contender that takes part."""

    player: Remote
    first_seconds: float
    answers: np.ndarray
    turns: list[list[float]]

    def result(self) -> Result:
        return Result(
            [statistics.median(turn) for turn in self.turns],
            [second for turn in self.turns for second in turn],
            self.first_seconds,
            self.answers,
            self.player.ask("facts"),
        )


def _enter(
    stack: contextlib.ExitStack,
    name: str,
    materials: Materials,
    batch: int,
    say: Callable[[str], None],
) -> _Taking:
    if CONTENDERS[name].compiled:
        say(f"{name}: compiling")
        with elsewhere(Player, name, materials, batch) as compiler:
            compiler.ask("first")
    say(f"{name}: answering")
    with contextlib.ExitStack() as own:
        player = own.enter_context(elsewhere(Player, name, materials, batch))
        player.ask("first")
        first_seconds = time.perf_counter() - player.begun
        answers = player.ask("answers", checked(len(materials.read_images()), batch))
        player.ask("warm")
        stack.enter_context(own.pop_all())
    return _Taking(player, first_seconds, answers, [])


def checked(images: int, batch: int) -> int:
    """On how many images answers are compared: full batches, and not too many."""
    return min(images // batch, MOST_CHECKED) * batch


def _rounds(length: Length) -> Iterator[int]:
    end = time.monotonic() + length.seconds
    for turn in range(length.rounds):
        if turn >= LEAST_ROUNDS and time.monotonic() > end:
            return
        yield turn


@contextlib.contextmanager
def _compilers_cache() -> Iterator[None]:
    """A cache of its own: PyTorch's key of an entry does not know our operations' bodies."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before


def agreement(result: Result, reference: Result) -> tuple[float, float]:
    """Share of images that get the same class, and the largest difference of a logit."""
    one, two = result.answers, reference.answers
    same = (one.argmax(-1) == two.argmax(-1)).mean()
    return float(same), float(np.abs(one.astype(np.float64) - two).max())


def ratios(result: Result, contest: Contest) -> list[float] | None:
    """How many times faster than PyTorch, eager, in float32, in each round."""
    baseline = contest.results.get(BASELINE)
    if baseline is None:
        return None
    return [b / a for a, b in zip(result.seconds, baseline.seconds, strict=True)]
