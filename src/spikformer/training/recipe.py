"""A recipe: everything that decides what a training run does. Imports no torch.

The command line makes an option of every field below: `--optim.lr 1e-3`.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from spikformer.errors import ConfigError

Precision = Literal["32", "bf16", "16", "64"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, and what it changes of its named size (None: as named)."""

    name: str
    """A name that `spikformer models` lists."""
    steps: int | None = None
    """Time steps T of a static image."""
    neuron: str | None = None
    """`lif`, `if`, `plif`, or `file.py:Class`."""
    attention: str | None = None
    """`ssa`, `vsa`, `vsa_float`, `identity`, `relu`, `leaky_relu`, or `file.py:Class`."""
    depth: int | None = None
    """Encoder blocks L."""
    dim: int | None = None
    """Width D."""
    heads: int | None = None
    """Attention heads."""
    scale: float | None = None
    """The attention's scale s."""
    learnable_scale: bool | None = None
    """Whether each block trains its own s."""
    qk_pool: int | None = None
    """Width in tokens of a max-pool over Q and K."""
    init: str | None = None
    """`linear` or `conv`: how the maps inside the blocks start."""
    drop_path_rate: float | None = None
    """Of the last block; earlier ones rise to it linearly."""

    def arguments(self) -> dict[str, Any]:
        """What `create_model` is called with, beside the name."""
        return {k: v for k, v in vars(self).items() if k != "name" and v is not None}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which images, in what portions."""

    name: str
    """A name that `spikformer data` lists."""
    root: Path | None = None
    """Folder with the official files, for data sets that are not embedded."""
    split_seed: int = 0
    """Chooses the split, where the data set does not fix it."""
    batch_size: int = 128
    """Samples a step. A last batch that would be smaller is left out in training."""
    workers: int = 0
    """Processes that prepare batches. 0 prepares them in the training process."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to training images, drawn anew for each sample and epoch (0: nothing)."""

    degrees: float = 0.0
    """Largest rotation to either side."""
    scale: float = 0.0
    """Largest change in size: 0.1 means 0.9 to 1.1."""
    translate: float = 0.0
    """Largest shift to either side, as a share of the side."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW, warmed up linearly and cooled down by a cosine, changed once an epoch."""

    lr: float = 5e-4
    """Learning rate after the warm-up."""
    min_lr: float = 1e-5
    """Where the cosine ends."""
    warmup_epochs: int = 0
    """Epochs from `warmup_lr` to `lr`; the cosine runs on underneath, as timm's does."""
    warmup_lr: float = 1e-5
    """Learning rate of the first epoch, when there is a warm-up."""
    weight_decay: float = 0.06
    """Of maps; biases, norms and single numbers are spared."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""

    def lr_at(self, epoch: int, epochs: int) -> float:
        """The learning rate of an epoch (from 0), of `epochs` in all."""
        if epoch < self.warmup_epochs:
            return self.warmup_lr + (self.lr - self.warmup_lr) * epoch / self.warmup_epochs
        fraction = min(epoch / epochs, 1.0)
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * fraction)) / 2


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How long, on what, and how exactly."""

    epochs: int
    """Passes over the training split."""
    seed: int = 0
    """Decides weights, order and augmentation."""
    precision: Precision = "32"
    """`32`, `64`, or `bf16` and `16` for mixed precision."""
    accelerator: str = "auto"
    """`cpu`, `gpu`, `mps`, or `auto`: one of them."""
    compile: bool = False
    """Compile the training step: a minute's wait, then faster. Spikes may differ in rounding."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run, in full.

    Raises:
        ConfigError: when a number is out of its range.
    """

    name: str
    """What runs are filed under."""
    model: Model
    data: Data
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    trainer: Trainer

    def __post_init__(self) -> None:
        data, augment, optim, trainer = self.data, self.augment, self.optim, self.trainer
        rules = (
            ("data.batch_size", data.batch_size, data.batch_size >= 1, "at least 1"),
            ("data.workers", data.workers, data.workers >= 0, "0 or more"),
            ("data.split_seed", data.split_seed, data.split_seed >= 0, "0 or more"),
            ("augment.degrees", augment.degrees, augment.degrees >= 0, "0 or more"),
            ("augment.scale", augment.scale, 0 <= augment.scale < 1, "in [0, 1)"),
            ("augment.translate", augment.translate, augment.translate >= 0, "0 or more"),
            ("optim.lr", optim.lr, optim.lr > 0, "positive"),
            ("optim.min_lr", optim.min_lr, optim.min_lr >= 0, "0 or more"),
            ("optim.warmup_epochs", optim.warmup_epochs, optim.warmup_epochs >= 0, "0 or more"),
            ("optim.weight_decay", optim.weight_decay, optim.weight_decay >= 0, "0 or more"),
            (
                "optim.label_smoothing",
                optim.label_smoothing,
                0 <= optim.label_smoothing < 1,
                "in [0, 1)",
            ),
            ("trainer.epochs", trainer.epochs, trainer.epochs >= 1, "at least 1"),
            ("trainer.seed", trainer.seed, trainer.seed >= 0, "0 or more"),
        )
        for name, value, holds, rule in rules:
            if not holds:
                raise ConfigError(f"{name} must be {rule}, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        values = asdict(self)
        values["data"]["root"] = None if self.data.root is None else str(self.data.root)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The recipe that `to_dict` wrote.

        Raises:
            ConfigError: when a field is unknown or missing.
        """
        try:
            root = values["data"]["root"]
            return cls(
                name=values["name"],
                model=Model(**values["model"]),
                data=Data(**{**values["data"], "root": None if root is None else Path(root)}),
                augment=Augment(**values["augment"]),
                optim=Optim(**values["optim"]),
                trainer=Trainer(**values["trainer"]),
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"not a recipe of this version: {error}") from error
