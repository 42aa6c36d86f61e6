"""A recipe: everything that decides what a training run does. Imports no torch.

The command line makes an option of every field below: `--optim.lr 1e-3`.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from spikformer._values import (
    BelowOne,
    Count,
    Natural,
    NotNegative,
    Positive,
    Seed,
    Share,
    UpToTen,
    refusal,
)
from spikformer.errors import ConfigError

Precision = Literal["32", "bf16", "16", "64"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]
Loss = Literal["mean", "tet"]
Strategy = Literal["auto", "ddp", "fsdp"]
FramesBy = Literal["count", "time"]
Operations = Literal["five", "all"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, and what it changes of its named size (None: as named)."""

    name: str
    """A name that `spikformer models` lists."""
    steps: Count | None = None
    """Time steps T of a static image."""
    neuron: str | None = None
    """`lif`, `if`, `plif`, or `file.py:Class`."""
    attention: str | None = None
    """`ssa`, `vsa`, `vsa_float`, `identity`, `relu`, `leaky_relu`, or `file.py:Class`."""
    depth: Count | None = None
    """Encoder blocks L."""
    dim: Count | None = None
    """Width D."""
    heads: Count | None = None
    """Attention heads."""
    scale: Positive | None = None
    """The attention's scale s."""
    learnable_scale: bool | None = None
    """Whether each block trains its own s."""
    qk_pool: Count | None = None
    """Width in tokens of a max-pool over Q and K."""
    init: str | None = None
    """`linear` or `conv`: how the maps inside the blocks start."""
    drop_path_rate: BelowOne | None = None
    """Of the last block; earlier ones rise to it linearly."""
    weights: Path | None = None
    """Weights to start from, all but the head, which starts anew."""

    def arguments(self) -> dict[str, Any]:
        """What `create_model` is called with, beside the name."""
        beside = ("name", "weights")
        return {k: v for k, v in vars(self).items() if k not in beside and v is not None}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which images, in what portions."""

    name: str
    """A name that `spikformer data` lists."""
    root: Path | None = None
    """Folder with the official files. None looks in $SPIKFORMER_DATA, then in `data`."""
    split: str | None = None
    """A named split, such as `front90`. None: the data set's usual one."""
    split_seed: Natural = 0
    """Chooses the split, where the data set does not fix it."""
    validation: Natural | None = None
    """Training samples kept to choose the best epoch by. 0: none, the last epoch is reported.
    None: as many as is usual for the data set."""
    side: Count | None = None
    """Side that images are brought to. None leaves them."""
    frames: Count | None = None
    """Frames T that a recording of events is cut into. None: as many as is usual."""
    frames_by: FramesBy = "count"
    """Whether frames have the same `count` of events, or the same `time`."""
    batch_size: Count = 128
    """Samples a batch of each device. A last batch that would be smaller is left out in training."""
    workers: Natural = 0
    """Processes that prepare batches. 0 prepares them in the training process."""

    def choices(self) -> dict[str, Any]:
        """What `load_data` is called with, beside name and root."""
        return {name: getattr(self, name) for name in CHOICES}


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to training images, in this order, anew for each sample and epoch (0: nothing)."""

    flip: Share = 0.0
    """Share of images that are mirrored."""
    rand_augment: bool = False
    """Change images at random by the operations of `rand_operations`."""
    rand_operations: Operations = "five"
    """`five`: on half of the images equalize, rotate, shear or translate, as the authors on CIFAR.
    `all`: two of timm's fifteen, as they on ImageNet."""
    rand_magnitude: UpToTen = 9.0
    """Mean of its magnitude, 0 to 10."""
    rand_deviation: NotNegative = 0.4
    """Standard deviation of its magnitude."""
    event_operation: bool = False
    """One of the authors' six operations on every sample of event frames."""
    degrees: NotNegative = 0.0
    """Largest rotation to either side."""
    scale: BelowOne = 0.0
    """Largest change in size: 0.1 means 0.9 to 1.1."""
    translate: NotNegative = 0.0
    """Largest shift to either side, as a share of the side."""
    mixup: NotNegative = 0.0
    """Strength: images are mixed by shares drawn from Beta(mixup, mixup)."""
    cutmix: NotNegative = 0.0
    """The same for boxes pasted in. With both, each batch takes one or the other."""
    mixing_epochs: Natural | None = None
    """How many epochs mix. None: all."""
    mixing_share: Share = 1.0
    """Share of the batches that mix."""
    erasing: Share = 0.0
    """Share of images in which a rectangle is set to the mean."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW, warmed up linearly and cooled down by a cosine, changed once an epoch."""

    lr: Positive = 5e-4
    """Learning rate after the warm-up."""
    min_lr: NotNegative = 1e-5
    """Where the cosine ends."""
    warmup_epochs: Natural = 0
    """Epochs from `warmup_lr` to `lr`; the cosine runs on underneath, as timm's does."""
    warmup_lr: NotNegative = 1e-5
    """Learning rate of the first epoch, when there is a warm-up."""
    cooldown_epochs: Natural = 0
    """The last epochs, at `min_lr`."""
    weight_decay: NotNegative = 0.06
    """Of maps; biases, norms and single numbers are spared."""
    label_smoothing: BelowOne = 0.0
    """Share of the target that is spread over all classes."""
    loss: Loss = "mean"
    """`mean`: cross-entropy of the logits' mean over time. `tet`: its mean over the steps (TET)."""
    tet_share: Share = 0.05
    """Share of the `tet` loss that draws every logit towards 1."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient."""
    ema: BelowOne | None = None
    """Decay a step of an average of the weights, which is then evaluated and kept."""

    def lr_at(self, epoch: int, epochs: int) -> float:
        """The learning rate of an epoch (from 0), of `epochs` in all."""
        if epoch < self.warmup_epochs:
            return self.warmup_lr + (self.lr - self.warmup_lr) * epoch / self.warmup_epochs
        fraction = min(epoch / max(epochs - self.cooldown_epochs, 1), 1.0)
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * fraction)) / 2


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How long, on what, and how exactly."""

    epochs: Count
    """Passes over the training split."""
    seed: Seed = 0
    """Decides weights, order and augmentation."""
    precision: Precision = "32"
    """`32`, `64`, or `bf16` and `16` for mixed precision."""
    accelerator: Accelerator = "auto"
    """The kind of device."""
    devices: Count = 1
    """How many train together, each on batches of its own."""
    nodes: Count = 1
    """Machines; start the same command on each through torchrun or SLURM."""
    strategy: Strategy = "auto"
    """`ddp`: every device has the whole network. `fsdp`: its parts are spread over them."""
    share_statistics: bool = False
    """Norms see the batches of all devices at once, where there are several."""
    accumulate: Count = 1
    """Batches of a device that make one step."""
    compile: bool = False
    """Compile the training step: a minute's wait, then faster. Spikes may differ in rounding."""
    memory_budget: Share = 1.0
    """Share of its activations that a compiled step may keep. 0.9 makes spikes again where they are
    needed: 7 % less memory for 3 % more time, on a CPU."""
    deterministic: bool = False
    """Refuse operations whose sums depend on the order of threads (GPU)."""
    paper_protocol: bool = False
    """Also test after every epoch, to report the best of them as the paper does, beside the run's
    own result. Nothing is chosen by it."""
    log_every: Count = 50
    """Steps between lines of the log, and between looks at whether the loss is finite."""
    checkpoint_every: Count = 500
    """Steps between checkpoints within an epoch; there is one after every epoch anyway."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run, in full.

    Raises:
        ConfigError: when a value is not of its field's type, out of its range, or without effect.
    """

    name: str
    """What runs are filed under."""
    model: Model
    data: Data
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    trainer: Trainer

    def __post_init__(self) -> None:
        for name, value in self._flat().items():
            if (words := refusal(value, HINTS[name])) is not None:
                raise ConfigError(f"{name} must be {words}, got {value!r}")
        if self.trainer.memory_budget < 1 and not self.trainer.compile:
            raise ConfigError("trainer.memory_budget is of compiled steps: set trainer.compile too")
        warm, cool = self.optim.warmup_epochs, self.optim.cooldown_epochs
        if warm + cool >= self.trainer.epochs and warm + cool > 0:
            raise ConfigError(
                f"optim.warmup_epochs + optim.cooldown_epochs must be below trainer.epochs, "
                f"got {warm} + {cool} and {self.trainer.epochs}"
            )

    def check_resumes(self, other: "Recipe") -> None:
        """See that a run of the other recipe can go on by this one.

        Raises:
            ConfigError: naming the first field that may not change on the way.
        """
        mine, theirs = self._flat(), other._flat()
        for name, value in theirs.items():
            if mine[name] != value and name not in FREE:
                raise ConfigError(
                    f"{name} is {value} in this run and cannot become {mine[name]} "
                    f"when it is resumed"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        values = asdict(self)
        for part, name in PATHS:
            value = values[part][name]
            values[part][name] = None if value is None else str(value)
        return values

    def _flat(self) -> dict[str, Any]:
        fields = {f"{part}.{k}": v for part in PARTS for k, v in vars(getattr(self, part)).items()}
        return {"name": self.name, **fields}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The recipe that `to_dict` wrote.

        Raises:
            ConfigError: when a field is unknown or missing.
        """
        try:
            values = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
            for part, name in PATHS:
                value = values[part].get(name)
                values[part][name] = None if value is None else Path(value)
            parts = {part: kind(**values[part]) for part, kind in PARTS.items()}
            return cls(name=values["name"], **parts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"not a recipe of this version: {error}") from error


PARTS = {"model": Model, "data": Data, "augment": Augment, "optim": Optim, "trainer": Trainer}
HINTS: dict[str, Any] = {"name": str} | {
    f"{part}.{name}": hint
    for part, kind in PARTS.items()
    for name, hint in get_type_hints(kind, include_extras=True).items()
}
CHOICES = ("split", "split_seed", "validation", "side", "frames", "frames_by")
"""Fields of the data that say which samples, and what they are."""
PATHS = (("data", "root"), ("model", "weights"))
"""Fields that are paths."""
FREE = (
    "data.root",
    "data.workers",
    "trainer.accelerator",
    "trainer.log_every",
    "trainer.checkpoint_every",
)
"""Fields that may change when a run is resumed: where it runs, and how it is watched."""
