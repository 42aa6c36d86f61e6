"""One layer at firing rates from silence on: where events win, and where dense products do.

A plan of two layers: the first hands pixels of 0 and 1 through as spikes, the second is measured,
neurons and packing included. Dense products of PyTorch are the matrix product alone, convolutions
unfolded beforehand: all that a dense layer has to do besides is given to it.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from spikformer.bench.processes import elsewhere
from spikformer.bench.products import RUNS, Products, Shape
from spikformer.export.plan import INPUT, Head, Layer, Neuron, Plan

RATES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40)
ROUNDS = 5
STEPS = 4
LARGEST = 127
SPREAD = 4.0
"""Of the weights, so that a seventh or so of the outputs fires where a seventh of the inputs does."""
SHOWN = 0.15
"""Rate until another one is asked for."""
ENGINES = {
    "engine int8, events": ("int8", "events"),
    "engine float32, events": ("float32", "events"),
    "engine int8, dense": ("int8", "dense"),
}
"""What is measured of the engine: precision and path."""
PASS_ON = Neuron("sum", 1.0, 1.0, 0.5)
"""Fires for a 1 and not for a 0, whatever came before."""


class Subject(NamedTuple):
    """A layer that is measured."""

    name: str
    kernel: int
    channels: int
    columns: int
    side: int

    def images(self, rows: int) -> int:
        return max(1, rows // (self.side**2 * STEPS))

    def shape(self, rows: int) -> Shape:
        """The matrix product that it is."""
        return Shape(
            self.images(rows) * self.side**2 * STEPS, self.kernel**2 * self.channels, self.columns
        )


SUBJECTS = (
    Subject("linear 384 to 384", 1, 384, 384, 8),
    Subject("linear 384 to 1536", 1, 384, 1536, 8),
    Subject("3x3 convolution 192 to 384", 3, 192, 384, 16),
)


@dataclass(frozen=True)
class Sweep:
    """Speeds of one layer.

    Args:
        subject: Its name.
        shape: Rows, inner size and columns of the product.
        rates: At which spikes were drawn.
        speeds: Contender to G multiply-accumulates/s of a dense product, for each rate: the median
            over rounds, and the range.
    """

    subject: str
    shape: Shape
    rates: tuple[float, ...]
    speeds: Mapping[str, list[tuple[float, float, float]]]

    def crossover(self, events: str, dense: str) -> float | None:
        """The rate from which `dense` is faster than `events`; None when it never is.

        Between measured rates, where the straight lines between their times cross. Where nothing
        fires, either path has nothing to do: that is no crossing.
        """
        times = [
            1 / a[0] - 1 / b[0]
            for a, b in zip(self.speeds[events], self.speeds[dense], strict=True)
        ]
        fires = [i for i, rate in enumerate(self.rates) if rate > 0]
        for i in fires:
            if times[i] > 0:
                if i == fires[0] or times[i - 1] > 0:
                    return self.rates[i]
                share = -times[i - 1] / (times[i] - times[i - 1])
                return self.rates[i - 1] + share * (self.rates[i] - self.rates[i - 1])
        return None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape)}


def sweep(
    threads: int,
    say: Callable[[str], None],
    *,
    rates: Sequence[float] = RATES,
    rows: int = 8192,
    subjects: Sequence[Subject] = SUBJECTS,
    rounds: int = ROUNDS,
) -> list[Sweep]:
    """Measure each layer at each rate, engines and PyTorch taking turns.

    Raises:
        Failed: when a process ended.
    """
    found = []
    for subject in subjects:
        shape = subject.shape(rows)
        with (
            elsewhere(OneLayer, subject, rows, threads) as engines,
            elsewhere(Products, [shape], threads) as products,
        ):
            speeds: dict[str, list[tuple[float, float, float]]] = {}
            for rate in rates:
                say(f"{subject.name} at {rate:.0%}")
                engines.ask("show", rate)
                turns: dict[str, list[float]] = {}
                for _ in range(rounds):
                    for player in (engines, products):
                        for name, speed in player.ask("turn").items():
                            turns.setdefault(name, []).append(speed)
                for name, each in turns.items():
                    speeds.setdefault(name, []).append(
                        (statistics.median(each), min(each), max(each))
                    )
            found.append(Sweep(subject.name, shape, tuple(rates), speeds))
    return found


class OneLayer:
    """A layer in the engine's precisions and paths, in a process of its own."""

    def __init__(
        self, subject: Subject, rows: int, threads: int, names: Sequence[str] = tuple(ENGINES)
    ) -> None:
        from spikformer.engine import Engine

        self.subject, self.macs = subject, subject.shape(rows).macs
        self.engines = {}
        for name in names:
            precision, path = ENGINES[name]
            plan, arrays = one_layer(subject, precision)
            self.engines[name] = Engine(plan, arrays, threads=threads, path=path)
        self.count = subject.images(rows)
        self.show(SHOWN)

    def show(self, rate: float) -> None:
        """From here on, spikes of this rate."""
        subject = self.subject
        shape = self.count, STEPS, subject.channels, subject.side, subject.side
        self.frames = (np.random.default_rng(0).random(shape) < rate).astype(np.float32)

    def turn(self) -> dict[str, float]:
        """G multiply-accumulates/s of a dense product, of each, in the fastest of some runs."""
        return {
            name: self.macs / min(engine.seconds(self.frames)["spikes"] for _ in range(RUNS)) / 1e9
            for name, engine in self.engines.items()
        }


def one_layer(subject: Subject, precision: str) -> tuple[Plan, dict[str, np.ndarray]]:
    """A plan with the subject behind a layer that hands 0 and 1 through, and random weights."""
    generator = np.random.default_rng(0)
    taps, channels, columns = subject.kernel**2, subject.channels, subject.columns
    plan = Plan(
        channels,
        subject.side,
        subject.side,
        STEPS,
        (
            Layer("in", INPUT, "shown", 1, channels, PASS_ON),
            Layer("layer", "shown", "spikes", subject.kernel, columns, Neuron()),
            Head("head", "spikes", 1),
        ),
    )
    integers = generator.integers(-LARGEST, LARGEST + 1, (taps, channels, columns), np.int8)
    scale = np.full(columns, SPREAD / (LARGEST * np.sqrt(taps * channels)), np.float32)
    arrays = {
        "in.weight": np.eye(channels, dtype=np.float32)[None],
        "in.bias": np.zeros(channels, np.float32),
        "layer.weight": integers,
        "layer.scale": scale,
        "layer.bias": np.zeros(columns, np.float32),
        "head.weight": np.ones((1, columns), np.float32),
        "head.bias": np.zeros(1, np.float32),
    }
    if precision == "float32":
        arrays["layer.weight"] = integers * arrays.pop("layer.scale")
    return plan, arrays
