"""`spikformer export RUN-or-WEIGHTS FILE`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from spikformer.cli._options import console, must_be_writable, plain_table, run
from spikformer.errors import ConfigError

if TYPE_CHECKING:
    from spikformer.engine import Engine


def main(arguments: Sequence[str]) -> int:
    return run("export", export_command, arguments)


def export_command(
    source: Annotated[str, tyro.conf.Positional],
    file: Annotated[Path, tyro.conf.Positional],
    precision: Literal["float32", "int8"] = "float32",
    data: str | None = None,
    root: Path | None = None,
    split: str = "train",
    samples: int = 256,
    overwrite: bool = False,
) -> None:
    """One file that runs on a plain CPU without PyTorch: spikformer.engine.load(FILE)(images).

    Args:
        source: The folder of a run, or a file of weights.
        file: Where to write the engine.
        precision: Of the weights. Sums of int8 weights are exact integers.
        data: Data set to measure firing rates and calibrate int8 on; by default the one that the
            weights were trained on.
        root: Folder with its official files.
        split: Which part of it.
        samples: How many of its samples.
        overwrite: Replace FILE if it is there.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    must_be_writable(file)
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} is there already: --overwrite replaces it")

    import numpy as np

    from spikformer.data.loader import EvaluationLoader
    from spikformer.engine import compile
    from spikformer.models import load_model
    from spikformer.training.evaluation import find_subject

    known = find_subject(source, data=data, root=root, split=split)
    loader = EvaluationLoader(known.data.split(split), known.pixels, batch_size=samples)
    images, _ = next(iter(loader))
    card = known.card
    facts = {
        name: getattr(card, name) for name in ("model", "classes", "mean", "std", "interpolation")
    }
    model = load_model(known.weights).eval()
    engine = compile(model, images, precision, facts=facts)
    engine.save(file)
    _print(engine)
    rates = [layer.rate for layer in engine.layers() if layer.rate is not None]
    console.print(
        f"{precision} on {len(images)} {split} samples of {known.data.name}: its layers read "
        f"{np.mean(rates):.3f} spikes per input and step"
    )
    console.print(f"written: {file}, {file.stat().st_size / 2**20:.1f} MiB")


def _print(engine: "Engine") -> None:
    numbers = "M MAC a step", "rate"
    table = plain_table("layer", *numbers, "runs by", "sums in", numbers=numbers)
    for layer in engine.layers():
        rate = "" if layer.rate is None else f"{layer.rate:.3f}"
        table.add_row(layer.name, f"{layer.macs / 1e6:.3f}", rate, layer.path, layer.arithmetic)
    console.print(table)
