"""What a network sees in files."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikformer.data import DATASETS, Choices, EventSource, imagenet
from spikformer.data.images import read_image
from spikformer.data.pixels import Pixels
from spikformer.data.recordings import Recording
from spikformer.models import Card, load_model, read_card
from spikformer.training.environment import find_device
from spikformer.training.evaluation import choices_of, find_weights


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one file, most probable first."""

    file: Path
    probabilities: dict[str, float]

    @property
    def best(self) -> str:
        return next(iter(self.probabilities))


def predict(
    source: str | os.PathLike[str],
    files: Iterable[str | os.PathLike[str]],
    *,
    device: str = "cpu",
    **overrides: Any,
) -> list[Prediction]:
    """Class probabilities for image files, or for recordings of events.

    Args:
        source: Folder of a run, or weights that describe themselves.
        files: Images of any size and mode; for a network that was trained on recordings, files of
            events, as long as they are: they are cut into as many frames.
        device: Where to compute.
        overrides: As in `load_model`: a neuron or attention of your own.

    Raises:
        ConfigError: when there is no such device, or the model takes no images.
        DataError: when a file is missing or damaged.
        WeightsError: when the weights do not describe their model.
    """
    weights = find_weights(source)
    card = read_card(weights)
    paths = [Path(file) for file in files]
    pixels = [_read(path, card) for path in paths]
    model = load_model(weights, **overrides).to(find_device(device))
    prepare = Pixels(card.mean, card.std, card.input_size[-1])
    predictions = []
    with torch.inference_mode():
        for path, image in zip(paths, pixels, strict=True):
            shares = model(prepare(image[None]).to(device)).softmax(-1)[0]
            order = shares.argsort(descending=True).tolist()
            names = card.classes or tuple(str(k) for k in range(len(shares)))
            predictions.append(Prediction(path, {names[k]: shares[k].item() for k in order}))
    return predictions


def _read(path: Path, card: Card) -> Tensor:
    """An image [C, H, W], or frames [T, 2, H, W], as the network was evaluated on."""
    source = DATASETS.get(card.facts.get("data", ""))
    if isinstance(source, EventSource):
        reading = source.reading(Choices(**choices_of(card)))
        return torch.from_numpy(reading(Recording(path))[0]).float()
    if source is imagenet:
        return imagenet.to_evaluate(path, card.input_size[-1])
    return read_image(path, card.input_size, card.interpolation)
