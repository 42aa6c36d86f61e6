"""What a data set is to everything else."""

from dataclasses import dataclass

from jaxtyping import Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images and labels, in memory.

    Args:
        images: [n, C, H, W], 0 to 255.
        labels: [n].
    """

    images: UInt8[Tensor, "n C H W"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """Three disjoint splits, and how their pixels become input.

    Args:
        name: As in `DATASETS`.
        train: What weights learn from.
        validation: What checkpoints are chosen by.
        test: What is reported. It may be looked at while training, and choose nothing.
        classes: Names, in the order of the labels.
        mean: Subtracted from pixels in [0, 1], one number a channel.
        std: What the difference is divided by.
        interpolation: How other images are brought to this size.
        split_name: Of the division into the three.
        split_hash: SHA-256 of their indices.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    split_name: str
    split_hash: str

    @property
    def input_size(self) -> tuple[int, int, int]:
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]
