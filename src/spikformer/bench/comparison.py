"""The whole measurement: contests at every batch size, dense products, layers, and the bound."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from spikformer.bench.bound import PROTOTYPE, PROTOTYPE_SOURCE, Bound, bound
from spikformer.bench.contenders import BASELINE, CONTENDERS, Materials
from spikformer.bench.contest import (
    Contest,
    Length,
    Result,
    agreement,
    contest,
    ratios,
)
from spikformer.bench.layers import LayerProfile
from spikformer.bench.preparation import prepare
from spikformer.bench.processes import Failed, elsewhere
from spikformer.bench.products import Products, typical_shapes
from spikformer.bench.sweep import SUBJECTS, OneLayer
from spikformer.errors import ConfigError, unknown_name

PRECISIONS = ("int8", "float32")
PROFILED = 32
"""Images on which layers are timed."""
ENGINE_DENSE = "engine int8, dense"
EVERYBODY = tuple(CONTENDERS)


@dataclass(frozen=True)
class Options:
    """How to measure.

    Args:
        batches: Images at once, for each contest.
        threads: Of each contender.
        length: How often they take turns.
        contenders: Who takes part.
        rows: Of dense products.
    """

    batches: tuple[int, ...] = (1, 32)
    threads: int = 2
    length: Length = field(default_factory=Length)
    contenders: tuple[str, ...] = EVERYBODY
    rows: int = 8192

    def check(self) -> None:
        """Check the values.

        Raises:
            ConfigError: when one breaks a rule.
        """
        for name in self.contenders:
            if name not in CONTENDERS:
                raise unknown_name("contender", name, CONTENDERS)
        numbers = {
            "threads": self.threads,
            "rounds": self.length.rounds,
            "runs": self.length.runs,
            "rows": self.rows,
            "batches": min(self.batches, default=0),
        }
        for name, value in numbers.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not self.contenders:
            raise ConfigError("there must be at least one contender")


@dataclass(frozen=True)
class Profile:
    """An engine's layers, and what they could reach.

    Args:
        about: Instruction set, threads, dense multiply-accumulates of an image.
        rows: Of `LayerProfile.rows`.
        bound: What measured rates imply.
    """

    about: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    bound: Bound


@dataclass(frozen=True)
class Comparison:
    """All that was measured.

    Args:
        contests: By batch size, in the order that was asked for.
        profiles: Of the engine, by precision.
        absent: Who could not take part anywhere, or was not profiled, and why.
    """

    contests: Sequence[Contest]
    profiles: Mapping[str, Profile]
    absent: Mapping[str, str]

    @property
    def largest(self) -> Contest:
        """The contest with the most images at once."""
        return max(self.contests, key=lambda each: each.batch)

    @property
    def dense_macs(self) -> int | None:
        """Of an image, without attention."""
        return next((each.about["dense_macs"] for each in self.profiles.values()), None)

    def ceiling(self, product: str) -> float | None:
        """Images/s of a network that did nothing but this product, at its median speed."""
        if self.dense_macs is None or product not in self.largest.products:
            return None
        return statistics.median(self.largest.products[product]) * 1e9 / self.dense_macs

    def times_ceiling(self, name: str, product: str) -> list[float] | None:
        """How many times as fast as this product allows a dense network, in each round."""
        found = self.largest
        if name not in found.results or product not in found.products or not self.dense_macs:
            return None
        pairs = zip(found.results[name].seconds, found.products[product], strict=True)
        return [found.batch / second * self.dense_macs / speed / 1e9 for second, speed in pairs]

    def share_of_bound(self, precision: str) -> float | None:
        """Images/s in the largest batch over those of the bound."""
        result = self.largest.results.get(f"engine {precision}")
        if result is None or precision not in self.profiles:
            return None
        reached = self.largest.batch / statistics.median(result.seconds)
        return reached / self.profiles[precision].bound.images_per_second

    def to_dict(self) -> dict[str, Any]:
        return {
            "contests": [_contest_facts(each) for each in self.contests],
            "products": {
                name: {
                    "giga_macs_per_second": _spread(speeds),
                    "images_per_second": self.ceiling(name),
                    "times": {
                        each: _spread(times)
                        for each in self.largest.results
                        if (times := self.times_ceiling(each, name)) is not None
                    },
                }
                for name, speeds in self.largest.products.items()
            },
            "dense_macs_per_image": self.dense_macs,
            "layers": {
                precision: {
                    **profile.about,
                    "operations": list(profile.rows),
                    "bound": asdict(profile.bound),
                    "share_of_bound": self.share_of_bound(precision),
                }
                for precision, profile in self.profiles.items()
            },
            "prototype": {
                "source": PROTOTYPE_SOURCE,
                "giga_macs_per_second": PROTOTYPE,
            },
            "absent": dict(self.absent),
        }


def compare(
    materials: Materials,
    calibration: np.ndarray,
    options: Options,
    say: Callable[[str], None],
) -> Comparison:
    """Check, time and weigh all contenders on the same weights and images.

    Raises:
        ConfigError: for options that break a rule, or when nobody can take part.
    """
    options.check()
    names = [name for name in CONTENDERS if name in options.contenders]
    absent = dict(prepare(materials, calibration, names, options.batches, say))
    engines = [each for each in PRECISIONS if materials.engine(each).exists()]
    contests = []
    for batch in options.batches:
        largest = batch == max(options.batches)
        found = contest(
            materials,
            batch,
            names,
            options.length,
            lambda what, batch=batch: say(f"batch {batch}: {what}"),
            absent=absent,
            yardsticks=_yardsticks(materials, options, engines) if largest else (),
        )
        contests.append(found)
    absent |= {n: why for each in contests for n, why in each.absent.items()}
    if not any(each.results for each in contests):
        raise ConfigError(
            "no contender could run: " + "; ".join(f"{n}: {w}" for n, w in absent.items())
        )
    if not engines:
        absent["dense products"] = "their shapes are read from an engine, and none takes part"
    speeds = max(contests, key=lambda each: each.batch).products
    profiles = {}
    for precision in engines:
        say(f"layers in {precision}")
        dense = speeds.get(precision)  # what the engine's dense layers are held against
        try:
            profiles[precision] = _profile(
                materials, precision, statistics.median(dense) if dense else None
            )
        except Failed as failure:
            absent[f"layers in {precision}"] = str(failure)
    return Comparison(contests, profiles, absent)


def _yardsticks(
    materials: Materials, options: Options, engines: Sequence[str]
) -> list[tuple[Any, ...]]:
    if not engines:
        return []
    from spikformer.engine import load

    shapes = typical_shapes(load(materials.engine(engines[0])).plan, options.rows)
    threads = options.threads
    return [
        (Products, shapes, threads),
        (OneLayer, SUBJECTS[-1], options.rows, threads, (ENGINE_DENSE,)),
    ]


def _profile(materials: Materials, precision: str, dense: float | None) -> Profile:
    with elsewhere(LayerProfile, precision, materials, PROFILED) as remote:
        about, rows = remote.ask("about"), remote.ask("rows")
    return Profile(about, rows, bound(precision, rows, dense))


def _contest_facts(found: Contest) -> dict[str, Any]:
    reference = found.results.get(BASELINE)
    return {
        "batch": found.batch,
        "contenders": {
            name: _result_facts(result, found, reference) for name, result in found.results.items()
        },
        "absent": dict(found.absent),
    }


def _result_facts(result: Result, found: Contest, reference: Result | None) -> dict[str, Any]:
    times_baseline = ratios(result, found)
    same, difference = (None, None) if reference is None else agreement(result, reference)
    return {
        "images_per_second": _spread([found.batch / second for second in result.seconds]),
        "times_baseline": None if times_baseline is None else _spread(times_baseline),
        "latency_ms": percentiles(result),
        "seconds_by_round": result.seconds,
        "first_logits_seconds": result.first_seconds,
        **result.facts,
        "images_checked": len(result.answers),
        "same_class": same,
        "largest_difference": difference,
    }


def percentiles(result: Result) -> dict[str, float]:
    """Of the time of one run, in ms."""
    found = np.percentile(result.all_seconds, [50, 99]) * 1e3
    return {"p50": float(found[0]), "p99": float(found[1]), "runs": len(result.all_seconds)}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "rounds": list(values),
    }
