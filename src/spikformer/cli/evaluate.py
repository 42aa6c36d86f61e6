"""`spikformer evaluate RUN-or-WEIGHTS`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from spikformer.cli._options import chosen, console, plain_table, run, write_json
from spikformer.errors import ConfigError
from spikformer.recipe import Precision

if TYPE_CHECKING:
    from spikformer.training.evaluation import Evaluation


def main(arguments: Sequence[str]) -> None:
    run("evaluate", evaluate_command, arguments)


def evaluate_command(
    source: Annotated[Path, tyro.conf.Positional],
    data: str | None = None,
    root: Path | None = None,
    split: Literal["train", "validation", "test"] = "test",
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    figure: Path | None = None,
    device: str = "cpu",
    precision: Precision = "32",
    neuron: str | None = None,
    attention: str | None = None,
) -> None:
    """Accuracy, by class and by step, and firing rates.

    Args:
        source: Folder of a run (the weights that its protocol chose), or a file of weights.
        data: Data set; by default the one that the weights were trained on.
        root: Folder with the data set's official files.
        split: Which part of it.
        out: Where to write all of it; a run's own folder by default.
        figure: Where to draw some predictions: .png, .svg or .pdf.
        device: Where to compute: cpu, cuda, mps.
        precision: What in: 32, 64, or mixed bf16 or 16.
        neuron: The neuron that the weights were trained with, when it is your own: file.py:Class.
        attention: The attention, likewise.
    """
    from spikformer.training.evaluation import evaluate

    own = chosen(neuron=neuron, attention=attention)
    if figure is not None:
        _check_figure(figure)
    found = evaluate(
        source,
        data=data,
        root=root,
        split=split,
        device=device,
        precision=precision,
        console=Console(file=sys.stderr),
        **own,
    )
    _print(found)
    if out is None and source.is_dir():
        other = "" if precision == "32" else f"-{precision}"
        out = source / f"evaluation-{split}{other}.json"
    if out is not None:
        write_json(out, found.to_dict())
    if figure is not None:
        from spikformer.report.predictions import draw_predictions

        draw_predictions(source, figure, data=data, root=root, split=split, **own)
        console.print(f"drawn: {figure}")


def _check_figure(path: Path) -> None:
    from importlib.util import find_spec

    from spikformer.report.predictions import check_figure

    check_figure(path)
    if find_spec("matplotlib") is None:
        raise ConfigError("figures need matplotlib: pip install 'spikformer[report]'")


def _print(found: "Evaluation") -> None:
    top5 = "" if found.top5 is None else f", top-5 {found.top5:.2%}"
    console.print(
        f"{found.data} {found.split}, {found.samples} images: top-1 {found.top1:.2%}{top5}"
    )
    console.print(f"split {found.split_name}, SHA-256 {found.split_hash}", soft_wrap=True)
    steps = ", ".join(f"{t}: {share:.2%}" for t, share in enumerate(found.by_step, 1))
    console.print(f"top-1 after step {steps}")
    console.print(f"firing rate {found.firing_rate:.4f} spikes per neuron per step")
    table = plain_table("class", "top-1")
    for name, share in found.by_class.items():
        table.add_row(name, f"{share:.2%}")
    console.print(table)
