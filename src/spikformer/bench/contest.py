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
PRODUCTS = "dense products"
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
    with contextlib.ExitStack() as stack:
        stack.enter_context(compilers_cache())
        race = _Race(stack, say, dict(absent))
        for name in names:
            if name not in race.missing:
                race.enter(name, materials, batch)
        for yardstick in yardsticks:
            race.measure(yardstick)
        runs = -(-length.runs // length.rounds) if batch == 1 else 1
        for turn in _rounds(length):
            say(f"round {turn + 1} of {length.rounds}")
            race.round(runs)
        return Contest(batch, race.results(), race.missing, race.products)


class _Race:
    """Who takes part, who does not, and what was measured so far."""

    def __init__(
        self, stack: contextlib.ExitStack, say: Callable[[str], None], missing: dict[str, str]
    ) -> None:
        self.stack, self.say, self.missing = stack, say, missing
        self.found: dict[str, _Taking] = {}
        self.measures: list[Remote] = []
        self.products: dict[str, list[float]] = {}

    def enter(self, name: str, materials: Materials, batch: int) -> None:
        with self._or_missing(name):
            self.found[name] = _enter(self.stack, name, materials, batch, self.say)

    def measure(self, yardstick: Yardstick) -> None:
        self.say("warming up dense products")
        remote = self.stack.enter_context(elsewhere(*yardstick))
        with self._or_missing(PRODUCTS):
            remote.ask("turn")
            self.measures.append(remote)

    def round(self, runs: int) -> None:
        for name, taking in list(self.found.items()):
            time.sleep(PAUSE)
            with self._or_missing(name):
                taking.turns.append(taking.player.ask("turn", runs))
        with self._or_missing(PRODUCTS):
            for remote in self.measures:
                time.sleep(PAUSE)
                for product, speed in remote.ask("turn").items():
                    self.products.setdefault(product, []).append(speed)

    def results(self) -> dict[str, Result]:
        results = {}
        for name, taking in list(self.found.items()):
            with self._or_missing(name):
                results[name] = taking.result()
        return results

    @contextlib.contextmanager
    def _or_missing(self, name: str) -> Iterator[None]:
        try:
            yield
        except Failed as failure:
            self.missing[name] = str(failure)
            self.found.pop(name, None)
            if name == PRODUCTS:  # a round without them could not be compared
                self.measures.clear()
                self.products.clear()


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
def compilers_cache() -> Iterator[None]:
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
