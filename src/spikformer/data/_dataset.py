"""What a data set is to everything else."""

from dataclasses import dataclass, fields
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

from spikformer.errors import ConfigError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a user may choose of a data set; each looks at what concerns it.

    Args:
        split: A named division into what is trained on and tested on. None: the usual one.
        split_seed: Chooses the division, where it is drawn.
        validation: Samples cut from the training data to choose by. None: as many as is usual.
        side: Of the square that pictures of all sizes are brought to. None: as is usual.
        frames: Frames of a recording. None: as many as is usual.
        frames_by: Whether frames have the same `count` of events, or the same `time`.
    """

    split: str | None = None
    split_seed: int = 0
    validation: int | None = None
    side: int | None = None
    frames: int | None = None
    frames_by: Literal["count", "time"] = "count"

    def only(self, data: str, *names: str) -> None:
        """See that nothing but these was chosen.

        Raises:
            ConfigError: when the data set has no such choice.
        """
        for field in fields(self):
            if field.name not in names and getattr(self, field.name) != field.default:
                raise ConfigError(f"{data} has no {field.name} to choose")

    def named(self, *splits: str) -> str:
        """The split that was chosen, the first where none was.

        Raises:
            ConfigError: when it is none of these.
        """
        if self.split is not None and self.split not in splits:
            raise unknown_name("split", self.split, splits)
        return self.split or splits[0]


@runtime_checkable
class Images(Protocol):
    """Images [n, C, H, W], or frames [n, T, C, H, W]: a tensor, or what reads them when asked.

    Pixels are uint8, 0 to 255; counts of events are float32.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, chosen: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Split:
    """Images and labels.

    Args:
        images: [n, C, H, W], or frames [n, T, C, H, W].
        labels: [n].
    """

    images: Images
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
        mean: Subtracted from pixels in [0, 1], or from counts of events; one number a channel.
        std: What the difference is divided by.
        interpolation: How other images are brought to this size.
        split_name: Of the division into the three.
        split_hash: SHA-256 of their indices, or of their files.
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
        channels, height, width = self.train.images.shape[-3:]
        return channels, height, width

    def describe(self) -> str:
        """How it is split, in a line, with what proves it."""
        sizes = f"{len(self.train)} to train on, {len(self.validation)} to choose by"
        return (
            f"{self.name}: {sizes}, {len(self.test)} to test on; "
            f"split {self.split_name}, SHA-256 {self.split_hash}"
        )

    @property
    def has_frames(self) -> bool:
        """Whether its samples are frames of events rather than pictures."""
        return len(self.train.images.shape) == 5

    def split(self, name: str) -> Split:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]
