"""Data sets by name, split with care, and what is done to their images.

To add one, write its file with what `Source` asks for, and name it in `DATASETS`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from spikformer.data import digits, digits_dvs, imagenet
from spikformer.data._dataset import Choices, DataSet, Split
from spikformer.data.cifar import CIFAR10, CIFAR100
from spikformer.data.cifar10dvs import CIFAR10DVS
from spikformer.data.dvs128gesture import DVS128GESTURE
from spikformer.data.events import Events, read_events, stream_events
from spikformer.data.frames import Slicing, to_frames
from spikformer.data.nmnist import NMNIST
from spikformer.data.origin import Origin
from spikformer.data.recordings import Reading
from spikformer.data.simulated import events_from_images
from spikformer.errors import DataError, unknown_name

__all__ = [
    "DATASETS",
    "Choices",
    "DataSet",
    "EventSource",
    "Events",
    "Slicing",
    "Split",
    "data_root",
    "events_from_images",
    "find_data",
    "load_data",
    "read_events",
    "stream_events",
    "to_frames",
]

ROOT_VARIABLE = "SPIKFORMER_DATA"


@runtime_checkable
class Source(Protocol):
    """What knows one data set."""

    @property
    def origin(self) -> Origin: ...

    def load(self, root: Path, choices: Choices, /) -> DataSet: ...

    def check(self, root: Path, /) -> str:
        """One line on what is there."""
        ...

    def files(self, root: Path, /) -> tuple[Sequence[Path], Callable[[Path], object]]:
        """What `check` does not read, and what reads one of them."""
        ...


@runtime_checkable
class EventSource(Source, Protocol):
    """What knows one data set of recordings, or of what passes for them."""

    def reading(self, choices: Choices, /) -> Reading:
        """How a file of events becomes frames."""
        ...


DATASETS: Mapping[str, Source] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cifar10dvs": CIFAR10DVS,
    "digits": digits,
    "digits_dvs": digits_dvs,
    "dvs128gesture": DVS128GESTURE,
    "imagenet": imagenet,
    "nmnist": NMNIST,
}


def load_data(name: str, root: Path | None = None, **choices: Any) -> DataSet:
    """A data set by name.

    Args:
        name: One of `DATASETS`.
        root: Folder that holds the official ones, see `data_root`.
        choices: Those of `Choices`, by name: `split_seed`, `validation`, `frames`, ...

    Raises:
        ConfigError: for an unknown name, or a choice that cannot be met.
        DataError: when files are missing or damaged.
    """
    source = find_data(name)
    if root is not None and not root.is_dir():
        raise DataError(f"there is no folder {str(root)!r}")
    return source.load(data_root(root), Choices(**choices))


def find_data(name: str) -> Source:
    """What knows a data set.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def data_root(root: Path | None = None) -> Path:
    """Where official files are looked for: `root`, else $SPIKFORMER_DATA, else `data`."""
    return root if root is not None else Path(os.environ.get(ROOT_VARIABLE, "data"))
