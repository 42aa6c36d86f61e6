"""`spikformer bench [NETWORK]`."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from spikformer.bench.comparison import EVERYBODY, Comparison, Options
from spikformer.bench.contest import Length
from spikformer.bench.subject import Seen
from spikformer.bench.sweep import RATES
from spikformer.cli import _networks
from spikformer.cli._bench_tables import print_comparison, print_sweep
from spikformer.cli._options import chosen, console, must_be_writable, run, write_json
from spikformer.engine import is_engine
from spikformer.engine._library import processors
from spikformer.errors import ConfigError

USUAL_THREADS = 2
UNTRAINED = (
    "These weights are random: the norms got a bias of 0.5 so that neurons fire. Speed depends on "
    "rates, and these are not those of a trained network."
)


@dataclass(frozen=True)
class SweepOptions:
    """The sweep over firing rates."""

    sweep: bool = False
    """Whether to measure single layers at firing rates from 0 on, too."""
    rates: tuple[float, ...] = RATES
    """Which firing rates."""
    rows: int = 8192
    """Rows of the matrix products, here and in the rooflines."""


@dataclass(frozen=True)
class Parts:
    """What weights were trained with, when it is your own."""

    neuron: str | None = None
    """The neuron: file.py:Class."""
    attention: str | None = None
    """The attention, likewise."""


SEEN, LENGTH, SWEEP, PARTS = Seen(), Length(), SweepOptions(), Parts()


def main(arguments: Sequence[str]) -> int:
    return run("bench", bench_command, arguments)


def bench_command(
    source: Annotated[str | None, tyro.conf.Positional] = None,
    seen: Annotated[Seen, tyro.conf.OmitArgPrefixes] = SEEN,
    batches: tuple[int, ...] = (1, 32),
    threads: int | None = None,
    length: Annotated[Length, tyro.conf.OmitArgPrefixes] = LENGTH,
    contenders: tuple[str, ...] = EVERYBODY,
    sweeping: Annotated[SweepOptions, tyro.conf.OmitArgPrefixes] = SWEEP,
    parts: Annotated[Parts, tyro.conf.OmitArgPrefixes] = PARTS,
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    figure: Path | None = None,
) -> None:
    """How fast a network answers: the engine, PyTorch, SpikingJelly and ONNX Runtime in turns.

    All have the same weights and the same images, and a process of their own each. Answers are
    compared first. Dense matrix products take turns too: what they allow is the roofline.

    Args:
        source: A model's name, the folder of a run, or a file of weights. None for the sweep alone.
        seen: What it is shown.
        batches: Images at once. Latency is that of batch 1.
        threads: Of each contender. By default 2, or what there is.
        length: How often contenders take turns.
        contenders: Who takes part.
        sweeping: Single layers at all firing rates.
        parts: What weights were trained with, when it is your own.
        out: Where to write all of it.
        figure: Where to draw it: .png, .svg or .pdf.
    """
    threads = min(USUAL_THREADS, processors()) if threads is None else threads
    options = Options(batches, threads, length, contenders, sweeping.rows)
    _check(source, options, sweeping, out, figure)
    facts = _circumstances(threads)
    comparison, sweeps = None, []
    with _said() as say:
        if source is not None:
            own = chosen(neuron=parts.neuron, attention=parts.attention)
            comparison, about = _compare(source, own, seen, options, say)
            facts |= about
        if sweeping.sweep:
            from spikformer.bench.sweep import sweep

            sweeps = sweep(threads, say, rates=sweeping.rates, rows=sweeping.rows)
    console.print(f"{facts['hardware']}; {threads} threads; {facts['software']}", soft_wrap=True)
    if comparison is not None:
        _print(source, comparison, facts)
        facts |= comparison.to_dict()
    for each in sweeps:
        print_sweep(each)
    facts["sweeps"] = [each.to_dict() for each in sweeps]
    if out is not None:
        write_json(out, facts)
    if figure is not None:
        from spikformer.bench.figures import draw

        draw(figure, comparison, sweeps)
        console.print(f"drawn: {figure}")


def _check(
    source: str | None,
    options: Options,
    sweeping: SweepOptions,
    out: Path | None,
    figure: Path | None,
) -> None:
    if source is None and not sweeping.sweep:
        raise ConfigError("name a network, or ask for --sweep alone")
    options.check()
    if not all(0 <= rate <= 1 for rate in sweeping.rates) or not sweeping.rates:
        raise ConfigError(f"rates must lie between 0 and 1, got {list(sweeping.rates)}")
    for path in (out, figure):
        if path is not None:
            must_be_writable(path)
    if figure is not None:
        _check_figure(figure)
    if sweeping.sweep:
        from spikformer.engine import missing

        if (why := missing()) is not None:
            raise ConfigError(f"a sweep needs the engine: {why}")


def _print(source: str | None, comparison: Comparison, facts: dict[str, Any]) -> None:
    console.print(f"{source} on {facts['images']}", soft_wrap=True)
    for line in facts["remarks"]:
        console.print(f"Warning: {line}", soft_wrap=True)
    print_comparison(comparison)


def _compare(
    source: str,
    own: dict[str, Any],
    seen: Seen,
    options: Options,
    say: Callable[[str], None],
) -> tuple[Comparison, dict[str, Any]]:
    from spikformer.bench.comparison import compare
    from spikformer.bench.contenders import Materials
    from spikformer.bench.preparation import write_images
    from spikformer.bench.subject import find_images, write_weights
    from spikformer.training.evaluation import find_weights

    if ":" in source or is_engine(Path(source)):
        raise ConfigError(
            f"contenders are built from weights that describe themselves: {source!r} must be a "
            "model's name, the folder of a run or a file of weights"
        )
    named = _networks.find_network(source, replace(_networks.Options(), **own))
    remarks = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        least = max(options.batches)
        if named.trained:
            weights = find_weights(source)
            shown = find_images(weights, seen, least)
        else:
            weights = place / "untrained.safetensors"
            network = named.subject.network
            shown = write_weights(network, weights, lambda path: find_images(path, seen, least))
            remarks.append(UNTRAINED)
        if not shown.real:
            remarks.append("These images are random: rates, and with them speed, are not real.")
        images = write_images(shown.images, place / "images.npy")
        materials = Materials(weights, own, images, place, options.threads)
        comparison = compare(materials, shown.calibration, options, say)
    about = {
        "source": source,
        "trained": named.trained,
        "images": shown.what,
        "real_images": shown.real,
        "calibration_images": len(shown.calibration),
        "remarks": remarks,
        "options": asdict(options),
    }
    return comparison, about


def _circumstances(threads: int) -> dict[str, Any]:
    """What all of it was measured on and with."""
    from importlib.metadata import PackageNotFoundError, version

    from spikformer.training.environment import git_commit, processor, versions

    found = versions()
    for package in ("spikingjelly", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    named = ("python", "torch", "numpy", "spikingjelly", "onnxruntime")
    return {
        "hardware": processor(),
        "processors": processors(),
        "threads": threads,
        "versions": found,
        "software": ", ".join(f"{name} {found[name]}" for name in named if found[name]),
        "git_commit": git_commit(),
    }


def _check_figure(path: Path) -> None:
    from importlib.util import find_spec

    from spikformer.report.predictions import check_figure

    check_figure(path)
    if find_spec("matplotlib") is None:
        raise ConfigError("figures need matplotlib: pip install 'spikformer[report]'")


@contextmanager
def _said() -> Iterator[Callable[[str], None]]:
    """Show what is being done, on standard error."""
    with Console(file=sys.stderr).status("preparing") as status:
        yield status.update
