"""`spikformer profile MODEL-or-RUN-or-WEIGHTS-or-FILE.py:CLASS`."""

import csv
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track

from spikformer._files import replacing
from spikformer.cli._networks import Options, find_network
from spikformer.cli._options import console, plain_table, run, write_json
from spikformer.energy import Costs
from spikformer.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from spikformer.energy import Measured, Profile
    from spikformer.probe import Subject

DEFAULTS, COSTS = Options(), Costs()
UNTRAINED = (
    "These weights are not trained and the input is noise: dense counts are exact, but rates, and "
    "with them energies, say nothing."
)


@dataclass(frozen=True)
class Input:
    """What weights that know their data are profiled on."""

    data: str | None = None
    """Data set; by default the one that the weights were trained on."""
    root: Path | None = None
    """Folder with the data set's official files."""
    split: str = "test"
    """Which part of it."""
    samples: int = 256
    """How many of its samples, from the first on. 0: all."""
    batch_size: int = 16
    """Samples at a time: memory grows with it, and nothing else."""


INPUT = Input()


def main(arguments: Sequence[str]) -> int:
    return run("profile", profile_command, arguments)


def profile_command(
    source: Annotated[str, tyro.conf.Positional],
    network: Annotated[Options, tyro.conf.OmitArgPrefixes] = DEFAULTS,
    seen: Annotated[Input, tyro.conf.OmitArgPrefixes] = INPUT,
    costs: Annotated[Costs, tyro.conf.OmitArgPrefixes] = COSTS,
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    table: Annotated[Path | None, tyro.conf.arg(name="csv")] = None,
) -> None:
    """What a network computes, and what that costs by every published convention.

    Args:
        source: A model's name, the folder of a run, a file of weights, or file.py:Class, which takes
            frames [B, T, ...].
        network: What it takes.
        seen: What it is shown. Models without weights, and networks of your own, see noise.
        costs: What an operation costs.
        out: Where to write all of it.
        table: Where to write a row for each operation.
    """
    from spikformer.energy import profile
    from spikformer.energy.published import remark
    from spikformer.models import Spikformer

    if seen.samples < 0 or seen.batch_size < 1:
        raise ConfigError("samples must be at least 0, and batch_size at least 1")
    subject, trained = find_network(source, _whole(source, network))
    if not trained and seen != INPUT:
        raise ConfigError(
            f"{source} comes without weights and sees noise: there are no data to choose"
        )
    model = subject.network.eval()
    ours = isinstance(model, Spikformer)
    if ours:
        model.steps = subject.steps
    batches, what = _batches(source, subject, seen) if trained else (_noise(subject), "noise")
    first = next(batches)
    still = (ours and first.dim() == 4) or subject.time_axis is None
    options: dict[str, Any] = {
        "steps": first.shape[1] if ours and first.dim() == 5 else subject.steps,
        "still": still,
        "batch_axis": int(subject.time_axis == 0),
        "costs": costs,
    }
    found = profile(model, itertools.chain([first], batches), **options)
    overhead, spent = _overhead(model, first, options)
    _print(source, found, what)
    said = [
        f"Counting took {overhead:.1f} times as long as the network alone.",
        _spent(spent, first.shape[options["batch_axis"]]),
        *([f"Not counted: {', '.join(found.uncounted)}."] if found.uncounted else []),
        *([UNTRAINED] if not trained else []),
        *([printed] if (printed := remark(source)) is not None else []),
    ]
    for line in said:
        console.print(line, soft_wrap=True)
    if out is not None:
        facts = {"source": source, "input": what, **found.to_dict(), "measured": asdict(spent)}
        write_json(out, facts | {"remarks": said})
    if table is not None:
        rows = found.rows()
        with replacing(table) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        console.print(f"written: {table}")


def _whole(source: str, network: Options) -> Options:
    """The options with the size that a model is made for, where none is given."""
    import torch

    from spikformer.models import create_model, list_models

    if network.input_shape is None and source in list_models():
        with torch.device("meta"):
            model: Any = create_model(source)
        return replace(network, input_shape=model.default_cfg["input_size"])
    return network


def _noise(subject: "Subject") -> Iterator["Tensor"]:
    """Two samples of normal numbers, as the network wants them."""
    import torch

    from spikformer.models import Spikformer

    frames = subject.frames(2).to(torch.get_default_dtype())
    still = subject.time_axis is None or isinstance(subject.network, Spikformer)
    if still and subject.input_shape[0] != 2:
        yield frames[:, 0]
    else:
        yield frames if subject.time_axis is None else frames.movedim(1, subject.time_axis)


def _batches(source: str, subject: "Subject", seen: Input) -> tuple[Iterator["Tensor"], str]:
    """What the weights' own data hold, and what that is called."""
    from spikformer.data.loader import EvaluationLoader
    from spikformer.training.evaluation import find_subject

    known = find_subject(source, data=seen.data, root=seen.root, split=seen.split)
    split = known.data.split(seen.split)
    wanted = min(seen.samples or len(split), len(split))
    loader = EvaluationLoader(split, known.pixels, batch_size=seen.batch_size)
    like = next(subject.network.parameters())

    def read() -> Iterator["Tensor"]:
        left = wanted
        for images, _ in track(
            loader,
            "counting",
            total=-(-wanted // seen.batch_size),
            console=Console(file=sys.stderr),
            transient=True,
        ):
            yield images[:left].to(like)
            left -= len(images)
            if left <= 0:
                return

    return read(), f"{known.data.name} {seen.split}, {wanted} samples"


def _overhead(model: Any, batch: "Tensor", options: dict[str, Any]) -> tuple[float, "Measured"]:
    """How much longer a counted pass takes than a plain one, and what a plain one spends."""
    import torch

    from spikformer.energy import measured, profile

    with torch.no_grad():
        model(batch)
        with measured() as spent:
            model(batch)
    begun = time.perf_counter()
    profile(model, [batch], **options)
    return (time.perf_counter() - begun) / spent.seconds, spent


def _print(source: str, found: "Profile", what: str) -> None:
    console.print(
        f"{source} on {what}: {found.parameters:,} parameters, {found.steps} steps; all of one sample"
    )
    numbers = "rate", "M MAC", "M adds", "spikformer, uJ", "strict, uJ"
    table = plain_table("layer", "input", *numbers, numbers=numbers)
    for row in found.rows():
        if row["role"] != "neuron":
            kind = row["input"] + (
                f" to {row['input_largest']:.0f}" if row["input"] == "integer" else ""
            )
            rate = "" if row["input"] == "float" else f"{row['input_rate']:.3f}"
            table.add_row(row["layer"], kind, rate, *_millions(row))
    table.add_row("total", "", "", *_millions(found.total()), style="bold")
    console.print(table)
    conventions = plain_table("convention", "mJ", "counts", numbers=["mJ"])
    for name, energy in found.energy_mj().items():
        rule = (found.conventions[name].__doc__ or "").splitlines()[0]
        conventions.add_row(name, f"{energy:.4g}", rule)
    console.print(conventions)
    console.print(
        f"There are as many additions as in the quantised twin where {found.break_even_rate():.1%} of all "
        f"inputs fire at each step; here, {found.mean_rate():.1%} do. That is arithmetic alone: with "
        f"data moved, Yan et al. (arXiv 2409.08290) find 5.7 % at T = 5.",
        soft_wrap=True,
    )


def _millions(row: dict[str, Any]) -> Iterator[str]:
    for name in ("macs", "additions", "spikformer_pj", "spikformer-strict_pj"):
        yield f"{row[name] / 1e6:.3f}"


def _spent(spent: "Measured", samples: int) -> str:
    """What the machine says it spent, beside what models say."""
    if not spent.joules:
        return f"Measured joules: none, {spent.missing}."
    each = ", ".join(f"{name} {joules:.3f} J" for name, joules in spent.joules.items())
    return f"Measured for {samples} samples, all that ran on the machine: {each}."
