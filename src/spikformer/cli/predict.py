"""`spikformer predict RUN-or-WEIGHTS FILE ...`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from spikformer.cli._options import chosen, console, run
from spikformer.errors import ConfigError


def main(arguments: Sequence[str]) -> None:
    run("predict", predict_command, arguments)


def predict_command(
    source: Annotated[Path, tyro.conf.Positional],
    files: Annotated[tuple[Path, ...], tyro.conf.Positional],
    top: int = 3,
    device: str = "cpu",
    neuron: str | None = None,
    attention: str | None = None,
) -> None:
    """Class probabilities for image files of any size and mode, or for recordings of events.

    Args:
        source: Folder of a run (the weights that its protocol chose), or a file of weights.
        files: Images, or event files for a network that was trained on recordings.
        top: How many classes to show for each.
        device: Where to compute: cpu, cuda, mps.
        neuron: The neuron that the weights were trained with, when it is your own: file.py:Class.
        attention: The attention, likewise.
    """
    if not files:
        raise ConfigError("predict needs at least one file after the weights")
    if top < 1:
        raise ConfigError(f"top must be at least 1, got {top}")
    from spikformer.training.prediction import predict

    own = chosen(neuron=neuron, attention=attention)
    for prediction in predict(source, files, device=device, **own):
        shown = list(prediction.probabilities.items())[:top]
        classes = "  ".join(f"{name} {share:.1%}" for name, share in shown)
        console.print(f"{prediction.file}: {classes}")
