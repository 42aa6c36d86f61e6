"""A recipe: everything that decides what a training run does. Imports no torch.

The command line makes an option of every field below: `--optim.lr 1e-3`.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from spikformer.errors import ConfigError

Precision = Literal["32", "bf16", "16", "64"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]
Loss = Literal["mean", "tet"]
Strategy = Literal["auto", "ddp", "fsdp"]


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
    split_seed: int = 0
    """Chooses the split, where the data set does not fix it."""
    validation: int | None = None
    """Training samples kept to choose the best epoch by. 0: none, the last epoch is reported.
    None: as many as is usual for the data set."""
    side: int | None = None
    """Side that images are enlarged to. None leaves them."""
    batch_size: int = 128
    """Samples a batch of each device. A last batch that would be smaller is left out in training."""
    workers: int = 0
    """Processes that prepare batches. 0 prepares them in the training process."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to training images, drawn anew for each sample and epoch (0: nothing).

    In this order.
    """

    flip: float = 0.0
    """Share of images that are mirrored."""
    rand_augment: bool = False
    """On half of the images equalize, rotate, shear or translate: the authors' five operations."""
    rand_magnitude: float = 9.0
    """Mean of its magnitude, 0 to 10."""
    rand_deviation: float = 0.4
    """Standard deviation of its magnitude."""
    degrees: float = 0.0
    """Largest rotation to either side."""
    scale: float = 0.0
    """Largest change in size: 0.1 means 0.9 to 1.1."""
    translate: float = 0.0
    """Largest shift to either side, as a share of the side."""
    mixup: float = 0.0
    """Strength: images are mixed by shares drawn from Beta(mixup, mixup)."""
    cutmix: float = 0.0
    """The same for boxes pasted in. With both, each batch takes one or the other."""
    mixing_epochs: int | None = None
    """How many epochs mix. None: all."""
    erasing: float = 0.0
    """Share of images in which a rectangle is set to the mean."""


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
    cooldown_epochs: int = 0
    """The last epochs, at `min_lr`."""
    weight_decay: float = 0.06
    """Of maps; biases, norms and single numbers are spared."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    loss: Loss = "mean"
    """`mean`: cross-entropy of the logits' mean over time. `tet`: its mean over the steps (TET)."""
    tet_share: float = 0.05
    """Share of the `tet` loss that draws every logit towards 1."""
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    ema: float | None = None
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

    epochs: int
    """Passes over the training split."""
    seed: int = 0
    """Decides weights, order and augmentation."""
    precision: Precision = "32"
    """`32`, `64`, or `bf16` and `16` for mixed precision."""
    accelerator: Accelerator = "auto"
    """The kind of device."""
    devices: int = 1
    """How many train together, each on batches of its own."""
    nodes: int = 1
    """Machines; start the same command on each through torchrun or SLURM."""
    strategy: Strategy = "auto"
    """`ddp`: every device has the whole network. `fsdp`: its parts are spread over them."""
    share_statistics: bool = False
    """Norms see the batches of all devices at once, where there are several."""
    accumulate: int = 1
    """Batches of a device that make one step."""
    compile: bool = False
    """Compile the training step: a minute's wait, then faster. Spikes may differ in rounding."""
    deterministic: bool = False
    """Refuse operations whose sums depend on the order of threads (GPU)."""
    paper_protocol: bool = False
    """Also test after every epoch, to report the best of them as the paper does, beside the run's
    own result. Nothing is chosen by it."""
    log_every: int = 50
    """Steps between lines of the log, and between looks at whether the loss is finite."""
    checkpoint_every: int = 500
    """Steps between checkpoints within an epoch; there is one after every epoch anyway."""


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
        optim = self.optim
        share, positive, natural = "in [0, 1]", "positive", "0 or more"
        least_one, below_one = "at least 1", "in [0, 1)"
        rules = {
            "data.batch_size": least_one,
            "data.workers": natural,
            "data.split_seed": natural,
            "data.validation": natural,
            "data.side": least_one,
            "augment.flip": share,
            "augment.rand_magnitude": "in [0, 10]",
            "augment.rand_deviation": natural,
            "augment.degrees": natural,
            "augment.scale": below_one,
            "augment.translate": natural,
            "augment.mixup": natural,
            "augment.cutmix": natural,
            "augment.mixing_epochs": natural,
            "augment.erasing": share,
            "optim.lr": positive,
            "optim.min_lr": natural,
            "optim.warmup_epochs": natural,
            "optim.warmup_lr": natural,
            "optim.cooldown_epochs": natural,
            "optim.weight_decay": natural,
            "optim.label_smoothing": below_one,
            "optim.tet_share": share,
            "optim.clip_norm": positive,
            "optim.ema": below_one,
            "trainer.epochs": least_one,
            "trainer.seed": "in [0, 2^63)",
            "trainer.devices": least_one,
            "trainer.nodes": least_one,
            "trainer.accumulate": least_one,
            "trainer.log_every": least_one,
            "trainer.checkpoint_every": least_one,
        }
        holds = {
            share: lambda x: 0 <= x <= 1,
            "in [0, 10]": lambda x: 0 <= x <= 10,
            "in [0, 2^63)": lambda x: 0 <= x < 2**63,
            positive: lambda x: x > 0,
            natural: lambda x: x >= 0,
            least_one: lambda x: x >= 1,
            below_one: lambda x: 0 <= x < 1,
        }
        for name, rule in rules.items():
            part, field_name = name.split(".")
            value = getattr(getattr(self, part), field_name)
            if value is not None and not (math.isfinite(value) and holds[rule](value)):
                raise ConfigError(f"{name} must be {rule}, got {value}")
        warm, cool, epochs = optim.warmup_epochs, optim.cooldown_epochs, self.trainer.epochs
        if warm + cool >= epochs and warm + cool > 0:
            raise ConfigError(
                f"optim.warmup_epochs + optim.cooldown_epochs must be below trainer.epochs, "
                f"got {warm} + {cool} and {epochs}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        values = asdict(self)
        for part, name in PATHS:
            value = values[part][name]
            values[part][name] = None if value is None else str(value)
        return values

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
            return cls(
                name=values["name"],
                model=Model(**values["model"]),
                data=Data(**values["data"]),
                augment=Augment(**values["augment"]),
                optim=Optim(**values["optim"]),
                trainer=Trainer(**values["trainer"]),
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"not a recipe of this version: {error}") from error


PATHS = (("data", "root"), ("model", "weights"))
"""Fields that are paths."""
