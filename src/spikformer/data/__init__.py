"""Data sets by name, split with care, and what is done to their images.

To add one, write its file with `load(root, split_seed) -> DataSet` and `check(root) -> str`, and
name it in `DATASETS`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from spikformer.data import digits
from spikformer.data._dataset import DataSet, Split
from spikformer.errors import DataError, unknown_name

__all__ = ["DATASETS", "DataSet", "Split", "load_data"]


class Source(Protocol):
    """A module of this package that knows one data set."""

    def load(self, root: Path | None, split_seed: int, /) -> DataSet: ...

    def check(self, root: Path | None, /) -> str: ...


DATASETS: Mapping[str, Source] = {"digits": digits}


def load_data(name: str, root: Path | None = None, split_seed: int = 0) -> DataSet:
    """A data set by name.

    Args:
        name: One of `DATASETS`.
        root: Folder that holds the official files, for those that are not embedded.
        split_seed: Chooses the split, where the data set does not fix it.

    Raises:
        ConfigError: for an unknown name.
        DataError: when files are missing or damaged.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if root is not None and not root.is_dir():
        raise DataError(f"there is no folder {str(root)!r}")
    return DATASETS[name].load(root, split_seed)
