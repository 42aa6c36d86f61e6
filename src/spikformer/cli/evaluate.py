"""`spikformer evaluate RUN-or-WEIGHTS`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikformer._files import replacing
from spikformer.cli._options import console, plain_table, run
from spikformer.errors import ConfigError


def main(arguments: Sequence[str]) -> None:
    run("evaluate", evaluate_command, arguments)


def evaluate_command(
    source: Annotated[Path, tyro.conf.Positional],
    data: str | None = None,
    root: Path | None = None,
    split: Literal["train", "validation", "test"] = "test",
    json: Path | None = None,
    figure: Path | None = None,
    device: str = "cpu",
) -> None:
    """Accuracy, by class and by step, and firing rates; in float32.

    Args:
        source: Folder of a run (its best weights), or a file of weights.
        data: Data set; by default the one that the weights were trained on.
        root: Folder with the data set's official files.
        split: Which part of it.
        json: Where to write all of it; a run's own folder by default.
        figure: Where to draw some predictions: .png, .svg or .pdf.
        device: Where to compute: cpu, cuda, mps.
    """
    from spikformer.training.evaluation import Evaluation, evaluate

    found: Evaluation = evaluate(source, data=data, root=root, split=split, device=device)
    if json is None and source.is_dir():
        json = source / f"evaluation-{split}.json"
    _print(found)
    if json is not None:
        _write(found.to_dict(), json)
        console.print(f"written: {json}")
    if figure is not None:
        try:
            from spikformer.report.predictions import draw_predictions

            draw_predictions(source, figure, data=data, root=root, split=split)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"figures need {error.name}: pip install 'spikformer[report]'"
            ) from error
        console.print(f"drawn: {figure}")


def _write(values: dict, path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")


def _print(found) -> None:
    top5 = "" if found.top5 is None else f", top-5 {found.top5:.2%}"
    console.print(
        f"{found.data} {found.split}, {found.samples} images: top-1 {found.top1:.2%}{top5}"
    )
    steps = ", ".join(f"{t}: {share:.2%}" for t, share in enumerate(found.by_step, 1))
    console.print(f"top-1 after step {steps}")
    console.print(f"firing rate {found.firing_rate:.4f} spikes per neuron per step")
    table = plain_table("class", "top-1")
    for name, share in found.by_class.items():
        table.add_row(name, f"{share:.2%}")
    console.print(table)
