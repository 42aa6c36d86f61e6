"""The weights that are measured, and the images they are shown."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spikformer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

EVENT_RATE = 0.1
"""Of random frames."""


@dataclass(frozen=True)
class Seen:
    """What networks are shown.

    Args:
        data: Data set; by default the one that the weights were trained on.
        root: Folder with its official files.
        split: Which part of it is timed. The engine is calibrated on the training part.
        images: How many.
        calibration: How many the engine is calibrated on.
    """

    data: str | None = None
    root: Path | None = None
    split: str = "test"
    images: int = 256
    calibration: int = 64


class Shown(NamedTuple):
    """Images in files and memory.

    Args:
        what: Their name, for the reader.
        real: Whether they are a data set's.
    """

    images: np.ndarray
    calibration: np.ndarray
    what: str
    real: bool


def find_images(weights: Path, seen: Seen, least: int) -> Shown:
    """Images for these weights; random ones where nobody says which data, or their files are missing.

    Args:
        least: How many the largest batch needs.

    Raises:
        DataError: when data were asked for and are not there.
        ConfigError: when data do not fit the weights, or a number is below 1.
    """
    if seen.images < 1 or seen.calibration < 1:
        raise ConfigError("images and calibration must be at least 1")
    from spikformer.models import read_card

    count = max(seen.images, least)
    if seen.data is None and read_card(weights).facts.get("data") is None:
        return _random(weights, seen, count, "the weights do not say what they were trained on")
    try:
        return _of_data(weights, seen, count)
    except DataError as error:
        if seen.data is not None or seen.root is not None:
            raise
        return _random(weights, seen, count, str(error))


def _of_data(weights: Path, seen: Seen, count: int) -> Shown:
    from spikformer.training.evaluation import find_subject

    known = find_subject(weights, data=seen.data, root=seen.root, split=seen.split)
    timed, learned = known.data.split(seen.split), known.data.split("train")
    images = known.pixels(timed.images[_spread(len(timed), count)])
    calibration = known.pixels(learned.images[_spread(len(learned), seen.calibration)])
    if len(images) < count:
        images = images.repeat(-(-count // len(images)), *[1] * (images.dim() - 1))[:count]
    what = f"{known.data.name} {seen.split}, {count} images"
    return Shown(_array(images), _array(calibration), what, real=True)


def _random(weights: Path, seen: Seen, count: int, why: str) -> Shown:
    from spikformer.models import read_card

    card = read_card(weights)
    generator = np.random.default_rng(0)
    total = count + seen.calibration
    if card.input_size[0] == 2:  # events of two polarities
        steps = int(card.arguments.get("steps", 4))
        frames = generator.random((total, steps, *card.input_size)) < EVENT_RATE
        images = frames.astype(np.float32)
    else:
        images = generator.standard_normal((total, *card.input_size), np.float32)
    what = f"{count} random images ({why})"
    return Shown(images[:count], images[count:], what, real=False)


def _spread(available: int, count: int) -> "Tensor":
    """Places at even distances."""
    import torch

    return torch.linspace(0, available - 1, min(available, count), dtype=torch.float64).long()


def _array(images: Any) -> np.ndarray:
    return np.ascontiguousarray(images.float().numpy())


def write_weights(network: Any, path: Path, shown: Callable[[Path], Shown]) -> Shown:
    """Write an untrained network that fires on the images which `shown` finds for its file."""
    import torch

    from spikformer.bench.preparation import enliven
    from spikformer.models import save_weights

    save_weights(network, path)
    found = shown(path)
    enliven(network, torch.from_numpy(found.calibration))
    save_weights(network, path)
    return found
