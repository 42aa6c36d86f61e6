"""A picture of predictions: image, answer, spikes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikformer._files import replacing
from spikformer.errors import ConfigError
from spikformer.models import load_model
from spikformer.probe import spikes_per_step
from spikformer.report.pictures import one_of_each, visible
from spikformer.training.evaluation import find_subject

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

RIGHT, WRONG, SPIKES = "#1a7f37", "#c4342b", "#5b6ee1"
SUFFIXES = (".png", ".svg", ".pdf")


def check_figure(path: Path) -> None:
    """See that a figure can be written to `path`.

    Raises:
        ConfigError: for a suffix that is none of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"a figure must end in {', '.join(SUFFIXES)}, got {path.name!r}")


def draw_predictions(
    source: str | os.PathLike[str],
    path: Path,
    *,
    data: str | None = None,
    root: Path | None = None,
    split: str = "test",
    count: int = 10,
    **overrides: Any,
) -> Path:
    """Draw some images of a split, what the network says, and how many spikes it took.

    Args:
        source: Folder of a run, or weights that describe themselves.
        path: Where the picture goes: `.png`, `.svg` or `.pdf`.
        data: Name of a data set; by default the one that the weights were trained on.
        root: Folder with its official files.
        split: `train`, `validation` or `test`.
        count: How many images, at least 1.
        overrides: As in `load_model`: a neuron or attention of your own.

    Returns:
        `path`.

    Raises:
        ConfigError: for another suffix or count, and as `evaluate`.
        DataError: as `evaluate`.
        WeightsError: as `evaluate`.
    """
    check_figure(path)
    if count < 1:
        raise ConfigError(f"count must be at least 1, got {count}")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    subject = find_subject(source, data=data, root=root, split=split)
    card, found = subject.card, subject.data
    part = found.split(split)
    chosen = one_of_each(part.labels, count)
    images = subject.pixels(part.images[chosen])
    model = load_model(subject.weights, **overrides)
    with torch.inference_mode():
        shares = model(images).softmax(-1)
        spikes = spikes_per_step(model, images)

    columns = min(5, len(chosen))
    rows = -(-len(chosen) // columns)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(2 * columns, 3.4 * rows), layout="constrained")
        figure.suptitle(f"{card.model} on {found.name}, {split} split")
        cells = figure.subfigures(rows, columns, squeeze=False).flat
        ceiling = max(spikes.max().item(), 1) / 1000 * 1.15
        for cell, number in zip(cells, range(len(chosen)), strict=False):
            _draw_cell(
                cell,
                part.images[chosen[number]],
                shares[number],
                int(part.labels[chosen[number]]),
                (spikes[:, number] / 1000).tolist(),
                ceiling,
                found.classes,
            )
        with replacing(path) as partial:
            figure.savefig(partial, dpi=150)
    return path


def _draw_cell(
    cell: "SubFigure",
    image: Tensor,
    shares: Tensor,
    label: int,
    spikes: list[float],
    ceiling: float,
    classes: tuple[str, ...],
) -> None:
    above, below = cell.subplots(2, 1, height_ratios=[2, 1])
    above.imshow(visible(image).movedim(0, -1).numpy(), cmap="gray", vmin=0, vmax=255)
    above.set_axis_off()
    answer = int(shares.argmax())
    verdict = f"{classes[answer]}, {shares[answer]:.0%}"
    if answer != label:
        verdict += f" (is {classes[label]})"
    above.set_title(verdict, color=RIGHT if answer == label else WRONG)
    below.bar(range(1, len(spikes) + 1), spikes, color=SPIKES)
    below.set_ylim(0, ceiling)
    below.set_xticks(range(1, len(spikes) + 1))
    below.set_xlabel("step")
    below.set_ylabel("1000 spikes")
