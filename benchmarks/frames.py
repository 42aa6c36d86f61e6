"""How fast do events become frames, against NumPy's `add.at` and SpikingJelly's integrator?

Correctness first: all three give the same counts. One thread, the same events in memory, taking
turns. Wants `pip install 'spikformer[bench]'`.

    python benchmarks/frames.py [--file F] [--size 128 128] [--frames 16] [--rounds 15] [--out F]
"""

import importlib
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from spikformer.data.events import Events, read_events
from spikformer.data.frames import Slicing, to_frames
from spikformer.training.environment import git_commit, hardware

LEAST_EVENTS = 1_000_000
"""The recording is repeated until it has as many."""


@dataclass(frozen=True)
class Options:
    """What to integrate.

    Args:
        file: A recording. None draws one at random, of a million events.
        size: Height and width of its sensor.
        frames: How many, of equal count.
        rounds: Turns of each.
        out: Where to write the table as Markdown; it is printed too.
    """

    file: Path | None = None
    size: tuple[int, int] = (128, 128)
    frames: int = 16
    rounds: int = 15
    out: Path | None = None


def main(options: Options) -> None:
    """Check, time, and write down.

    Raises:
        SystemExit: when counts differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        _compare(options, options.file or _drawn(Path(folder) / "drawn.npz", options.size))


def _compare(options: Options, file: Path) -> None:
    once = read_events(file)
    events = _repeated(once, -(-LEAST_EVENTS // len(once)))
    slicing = Slicing(by="count", number=options.frames)
    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: to_frames(events, slicing, options.size),
        "numpy.add.at": lambda: _add_at(events, slicing, options.size),
        "spikingjelly": _spikingjelly(events, options),
    }
    answers = {name: np.asarray(integrate()) for name, integrate in contenders.items()}
    for name, answer in answers.items():
        if not np.array_equal(answer, answers["ours"]):
            raise SystemExit(f"{name} counts otherwise: nothing is timed")
    contenders["ours, with reading the file"] = lambda: to_frames(
        read_events(file), slicing, options.size
    )
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, integrate in contenders.items():
            begun = time.perf_counter()
            integrate()
            seconds[name].append(time.perf_counter() - begun)
    lines = [
        "# frames",
        "",
        f"`python benchmarks/frames.py` on {file.name} at {git_commit()}, "
        f"{datetime.now(UTC):%Y-%m-%d}, {hardware()}; NumPy {np.__version__}, "
        f"spikingjelly {version('spikingjelly')}.",
        "",
        f"{len(once):,} events, repeated to {len(events):,} where they are in memory, into "
        f"{options.frames} frames of 2 x {options.size[0]} x {options.size[1]}; medians of "
        f"{options.rounds} alternating rounds. All counts are equal.",
        "",
        "| | million events/s | time / ours |",
        "| --- | --- | --- |",
    ]
    for name, taken in seconds.items():
        count = len(once) if "file" in name else len(events)
        speed = count / statistics.median(taken) / 1e6
        ours = len(events) / statistics.median(seconds["ours"]) / 1e6
        lines.append(f"| {name} | {speed:.0f} | {ours / speed:.2f} |")
    print("\n".join(lines))  # noqa: T201 what a benchmark is for
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]))


def _drawn(path: Path, size: tuple[int, int]) -> Path:
    draw = np.random.default_rng(0)
    t = np.sort(draw.integers(0, 10_000_000, LEAST_EVENTS))
    y, x, p = (draw.integers(0, side, LEAST_EVENTS) for side in (*size, 2))
    np.savez(path, t=t, x=x, y=y, p=p)
    return path


def _repeated(events: Events, times: int) -> Events:
    span = int(events.t[-1]) + 1
    t = np.concatenate([events.t + span * k for k in range(times)])
    return Events(t, *(np.tile(getattr(events, field), times) for field in "xyp"))


def _add_at(events: Events, slicing: Slicing, size: tuple[int, int]) -> np.ndarray:
    bounds = slicing.bounds(events.t)
    frames = np.zeros((len(bounds) - 1, 2, *size), np.int32)
    frame = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    np.add.at(frames, (frame, events.p, events.y, events.x), 1)
    return frames


def _spikingjelly(events: Events, options: Options) -> Callable[[], Any]:
    # Its `datasets` package imports torchaudio, which need not be there: one file of it is enough.
    package = types.ModuleType("spikingjelly.datasets")
    found = find_spec("spikingjelly")
    assert found is not None
    assert found.origin is not None
    package.__path__ = [str(Path(found.origin).parent / "datasets")]
    sys.modules["spikingjelly.datasets"] = package
    module = importlib.import_module("spikingjelly.datasets.utils")
    fields = {field: getattr(events, field) for field in "txyp"}
    return lambda: module.integrate_events_by_fixed_frames_number(
        fields, "number", options.frames, *options.size
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
