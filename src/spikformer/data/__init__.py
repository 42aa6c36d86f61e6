"""Data sets by name, split with care, and what is done to their images.

To add one, write its file with `load(root, split_seed, validation) -> DataSet` and
`check(root) -> str`, and name it in `DATASETS`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from spikformer.data import digits
from spikformer.data._dataset import DataSet, Split
from spikformer.data.cifar import CIFAR10, CIFAR100
from spikformer.errors import DataError, unknown_name

__all__ = ["DATASETS", "DataSet", "Split", "data_root", "load_data"]

ROOT_VARIABLE = "SPIKFORMER_DATA"


class Source(Protocol):
    """What knows one data set."""

    def load(
        self, root: Path, split_seed: int = 0, validation: int | None = None, /
    ) -> DataSet: ...

    def check(self, root: Path, /) -> str: ...


DATASETS: Mapping[str, Source] = {"cifar10": CIFAR10, "cifar100": CIFAR100, "digits": digits}


def load_data(
    name: str, root: Path | None = None, split_seed: int = 0, validation: int | None = None
) -> DataSet:
    """A data set by name.

    Args:
        name: One of `DATASETS`.
        root: Folder that holds the official ones, see `data_root`.
        split_seed: Chooses the split, where the data set does not fix it.
        validation: Samples cut from the training data to choose by, in place of the data set's own
            number. 0 for none.

    Raises:
        ConfigError: for an unknown name, or a validation split of more than there is.
        DataError: when files are missing or damaged.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if root is not None and not root.is_dir():
        raise DataError(f"there is no folder {str(root)!r}")
    return DATASETS[name].load(data_root(root), split_seed, validation)


def data_root(root: Path | None = None) -> Path:
    """Where official files are looked for: `root`, else $SPIKFORMER_DATA, else `data`."""
    return root if root is not None else Path(os.environ.get(ROOT_VARIABLE, "data"))
