"""The embedded digits before a simulated event camera: the event path without a download."""

from pathlib import Path

import numpy as np
import torch

from spikformer.data import digits
from spikformer.data._dataset import Choices, DataSet, Split
from spikformer.data.frames import Slicing, to_frames
from spikformer.data.recordings import Reading
from spikformer.data.simulated import events_from_images

origin, files = digits.origin, digits.files
FRAMES = 8


def load(root: Path, choices: Choices) -> DataSet:
    """The digits, split as they are, as event frames of 2 x 16 x 16.

    Args:
        choices: Those of `digits`, and `frames` and `frames_by`.

    Raises:
        DataError: when the package's file is damaged.
        ConfigError: when `validation` is more than there are.
    """
    choices.only("digits_dvs", "split_seed", "validation", "side", "frames", "frames_by")
    still = digits.load(root, Choices(split_seed=choices.split_seed, validation=choices.validation))
    splits = {n: _filmed(still.split(n), choices) for n in ("train", "validation", "test")}
    return DataSet(
        name="digits_dvs",
        **splits,
        classes=still.classes,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        interpolation="nearest",
        split_name=still.split_name,
        split_hash=still.split_hash,
    )


def check(root: Path) -> str:
    """One line on what is there.

    Raises:
        DataError: when it is damaged.
    """
    return f"{digits.check(root)}, filmed when they are loaded"


def reading(choices: Choices) -> Reading:
    """How a file of events becomes frames like these."""
    slicing = Slicing(by=choices.frames_by, number=choices.frames or FRAMES)
    return Reading(slicing, (digits.SIDE, digits.SIDE))


def _filmed(split: Split, choices: Choices) -> Split:
    images = split.images[torch.arange(len(split))][:, 0].numpy() / 255
    read = reading(choices)
    frames = np.zeros((len(split), *read.shape), np.float32)
    for place, events in zip(frames, events_from_images(images), strict=True):
        place[:] = to_frames(events, read.slicing, read.size)
    return Split(torch.from_numpy(frames), split.labels)
