"""What data sets of recordings share: from files that were found to three splits of frames."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spikformer.data._dataset import Choices, DataSet, Split
from spikformer.data._splits import (
    Indices,
    check_disjoint,
    fingerprint_of_files,
    stratified,
    whole_groups,
)
from spikformer.data.events import Events
from spikformer.data.frames import POLARITIES, Slicing
from spikformer.data.origin import Origin
from spikformer.data.recordings import Reading, Recording, Recordings
from spikformer.errors import ConfigError

CACHE_VARIABLE = "SPIKFORMER_CACHE"
CACHE = ".spikformer-frames"
"""Where frames are kept: in $SPIKFORMER_CACHE, else in this folder beside the data."""


@dataclass(frozen=True)
class Found:
    """All clips of a data set.

    Args:
        recordings: Files and what is cut from them, in the order that numbers the clips.
        labels: Of each clip.
        train: Clips to learn from, or to choose by.
        test: The others.
        split: Name of that division.
        people: Whom each recording shows, where that matters: nobody is in two splits.
    """

    recordings: Sequence[Recording]
    labels: Indices
    train: Indices
    test: Indices
    split: str
    people: Sequence[str] | None = None

    def names(self, root: Path) -> np.ndarray:
        """What each clip is called: its file, and its number in it."""
        each = [(r.path.relative_to(root), r.count) for r in self.recordings]
        return np.array([f"{path}:{clip}" for path, count in each for clip in range(count)])

    def sources(self) -> np.ndarray:
        """The recording of each clip, or the person in it."""
        known = self.people or [str(r.path.resolve()) for r in self.recordings]
        return np.repeat(known, [r.count for r in self.recordings])


@dataclass(frozen=True)
class Recorded:
    """A data set of recordings.

    Args:
        name: As in `DATASETS`.
        classes: Names, in the order of the labels.
        size: Height and width of the sensor.
        frames: As many as is usual.
        find: From root and choices to what is there.
        origin: Where it comes from.
        turn: What brings events into the published orientation.
    """

    name: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    frames: int
    find: Callable[[Path, Choices], Found]
    origin: Origin
    turn: Callable[[Events], Events] | None = None

    def load(self, root: Path, choices: Choices) -> DataSet:
        """Three splits of frames; nothing is read before it is asked for.

        Raises:
            DataError: when files are missing, or a recording is in two splits.
            ConfigError: when a choice cannot be met.
        """
        found = self.find(root, choices)
        chosen, train = _validation(found, choices)
        parts = {"train": train, "validation": chosen, "test": found.test}
        sources, names = found.sources(), found.names(root)
        check_disjoint({name: sources[indices].tolist() for name, indices in parts.items()})
        cache = Path(os.environ.get(CACHE_VARIABLE) or root / CACHE)
        images = Recordings(found.recordings, self.reading(choices), cache)
        labels = torch.from_numpy(found.labels)
        splits = {n: Split(images.part(part), labels[part]) for n, part in parts.items()}
        name = found.split
        if len(chosen):
            name += f"-validation{len(chosen)}-seed{choices.split_seed}"
        return DataSet(
            name=self.name,
            **splits,
            classes=self.classes,
            mean=(0.0,) * POLARITIES,
            std=(1.0,) * POLARITIES,
            interpolation="nearest",
            split_name=name,
            split_hash=fingerprint_of_files({n: names[part].tolist() for n, part in parts.items()}),
        )

    def reading(self, choices: Choices) -> Reading:
        """How a file of events becomes frames."""
        slicing = Slicing(by=choices.frames_by, number=choices.frames or self.frames)
        return Reading(slicing, self.size, self.turn)

    def check(self, root: Path) -> str:
        """One line on what is there.

        Raises:
            DataError: when files are missing or damaged.
        """
        found = self.find(root, Choices())
        return f"{len(found.recordings)} recordings, {len(found.train)} + {len(found.test)} samples"

    def files(self, root: Path) -> tuple[Sequence[Path], Callable[[Path], object]]:
        """All recordings, and what makes frames of one."""
        reading = self.reading(Choices())
        recordings = self.find(root, Choices()).recordings
        return [r.path for r in recordings], lambda path: reading(Recording(path))


def _validation(found: Found, choices: Choices) -> tuple[Indices, Indices]:
    """What is cut from the training clips, and the others: never two clips of one source."""
    size = choices.validation or 0
    if size > len(found.train):
        raise ConfigError(f"validation must be at most {len(found.train)}, got {size}")
    if any(r.clips is not None for r in found.recordings):
        cut = whole_groups(found.sources()[found.train].tolist(), size, choices.split_seed)
    else:
        chosen, rest = stratified(found.labels[found.train], (size,), choices.split_seed)
        cut = chosen, rest
    return found.train[cut[0]], found.train[cut[1]]
