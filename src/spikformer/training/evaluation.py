"""How good a network is: every sample of a split, once; in float32 unless asked."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from spikformer.data import DataSet, load_data
from spikformer.data.loader import EvaluationLoader
from spikformer.data.pixels import Pixels
from spikformer.engine import is_engine
from spikformer.errors import ConfigError, unknown_name
from spikformer.models import Card, Spikformer, load_model, read_card
from spikformer.probe import FiringRates, firing_rates
from spikformer.recipe import CHOICES, Precision
from spikformer.training._types import at_least_float32
from spikformer.training.environment import find_device, git_commit, hardware, versions
from spikformer.training.run import Run

SPLITS = ("train", "validation", "test")
BATCH = 100


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a split. Accuracies and rates are shares, 0 to 1.

    Args:
        weights: File that was evaluated.
        data: Name of the data set.
        split: `train`, `validation` or `test`.
        split_name: Of the division into these three.
        split_hash: SHA-256 of the division.
        samples: Number of images.
        top1: Share whose best class is right.
        top5: Share whose five best classes hold the right one; None below six classes.
        by_class: Class to its share.
        by_step: `top1` when only the steps up to t vote, for each t.
        firing_rate: Spikes per neuron per step, over all neurons.
        firing_rates: The same for each layer.
        precision: What was computed in; `32` unless asked.
        facts: What the weights say of themselves: recipe, protocol, seed, epoch.
        hardware: What computed it.
        versions: Of what computed it.
        git_commit: The same.
    """

    weights: str
    data: str
    split: str
    split_name: str
    split_hash: str
    samples: int
    top1: float
    top5: float | None
    by_class: dict[str, float]
    by_step: list[float]
    firing_rate: float
    firing_rates: dict[str, float]
    precision: str
    facts: dict[str, Any]
    hardware: str
    versions: dict[str, str]
    git_commit: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """What is evaluated, on what.

    Args:
        weights: The file.
        card: What it says of itself.
        data: The data set that fits it.
    """

    weights: Path
    card: Card
    data: DataSet

    @property
    def pixels(self) -> Pixels:
        """What brings the data's images to the size and range that the network knows."""
        return Pixels(self.card.mean, self.card.std, self.card.input_size[-1])


def evaluate(
    source: str | os.PathLike[str],
    *,
    data: str | None = None,
    root: Path | None = None,
    split: str = "test",
    device: str = "cpu",
    precision: Precision = "32",
    console: Console | None = None,
    **overrides: Any,
) -> Evaluation:
    """Evaluate the weights that a run's protocol chose, or a file of weights.

    Args:
        source: Folder of a run, or weights that describe themselves.
        data: Name of a data set; by default the one that the weights were trained on. Weights that
            know no classes by name, such as those of others, see it as our recipes do.
        root: Folder with its official files.
        split: `train`, `validation` or `test`.
        device: Where to compute.
        precision: `32`, `64`, or `bf16` and `16` for mixed precision.
        console: Where progress is shown. None shows none.
        overrides: As in `load_model`: a neuron or attention of your own.

    Raises:
        ConfigError: when the data do not fit the model, were split otherwise, a name is unknown, or
            there is no such device.
        DataError: when there is no such file or data set.
        WeightsError: when the file does not describe its model.
    """
    subject = find_subject(source, data=data, root=root, split=split)
    model = load_model(subject.weights, **overrides).to(find_device(device))
    assert isinstance(model, Spikformer)
    model = model.to(torch.float64 if precision == "64" else torch.float32)
    model = model.to(memory_format=torch.channels_last)
    loader = EvaluationLoader(subject.data.split(split), subject.pixels, batch_size=BATCH)
    with firing_rates(model) as rates:
        logits = _all_logits(model, loader, precision, console)
    return _judge(logits, rates, subject, split, precision)


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The weights that a run's protocol chose, or the file itself.

    Raises:
        DataError: when there is neither.
        ConfigError: for a compiled engine, whose weights are no model's any more.
    """
    path = Path(source)
    if is_engine(path):
        raise ConfigError(f"{path} is a compiled engine: name the weights that it was made of")
    if not path.is_dir():
        return path
    return Run(path).chosen


def find_subject(
    source: str | os.PathLike[str], *, data: str | None, root: Path | None, split: str
) -> Subject:
    """Weights, their card, and the data they are to be tried on. Arguments as in `evaluate`.

    Raises:
        ConfigError: when the data do not fit the model, were split otherwise, or a name is unknown.
        DataError: when there is no such file or data set.
        WeightsError: when the file does not describe its model.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    weights = find_weights(source)
    card = read_card(weights)
    name = data or card.facts.get("data")
    if name is None:
        raise ConfigError(f"{weights} does not say what it was trained on: name a data set")
    found = load_data(name, root, **(choices_of(card) if name == card.facts.get("data") else {}))
    if not card.classes and card.arguments.get("num_classes") == len(found.classes):
        card = replace(card, classes=found.classes, mean=found.mean, std=found.std)
    if (card.input_size[0], card.classes) != (found.input_size[0], found.classes):
        raise ConfigError(
            f"{weights} takes {[*card.input_size]} and knows {_some(card.classes)}; "
            f"{found.name} has {[*found.input_size]} and {_some(found.classes)}"
        )
    trained_on = card.facts.get("split_hash", found.split_hash)
    if name == card.facts.get("data") and trained_on != found.split_hash:
        raise ConfigError(
            f"{weights} was trained on another split of {name}: its test images may be among those "
            "it learned"
        )
    if not len(found.split(split)):
        raise ConfigError(f"split {split} of {name} is empty: nothing was kept to validate on")
    return Subject(weights, card, found)


def choices_of(card: Card) -> dict[str, Any]:
    """What was chosen of the data that weights were trained on."""
    known = card.facts.get("choices", card.facts)  # weights of 0.1.0 have them among the others
    return {name: value for name, value in known.items() if name in CHOICES}


def _some(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return f"{len(classes)} classes ({shown})" if classes else "no classes by name"


@torch.inference_mode()
def _all_logits(
    model: Spikformer,
    loader: EvaluationLoader,
    precision: Precision,
    console: Console | None,
) -> Tensor:
    """[T, n, K]."""
    like = model.position.conv.weight
    half = {"bf16": torch.bfloat16, "16": torch.float16}.get(precision)
    mixed = torch.autocast(like.device.type, half, enabled=half is not None)
    batches = track(
        loader,
        "evaluating",
        console=console or Console(quiet=True),
        disable=console is None,
        transient=True,
    )
    with mixed:
        steps = [model.forward_steps(images.to(like)).cpu() for images, _ in batches]
    return at_least_float32(torch.cat(steps, dim=1))


def _judge(
    logits: Tensor, rates: FiringRates, subject: Subject, split: str, precision: Precision
) -> Evaluation:
    data, labels = subject.data, subject.data.split(split).labels
    steps = torch.arange(1, len(logits) + 1)[:, None, None]
    so_far = logits.cumsum(0) / steps
    right = so_far.argmax(-1) == labels
    top5 = None
    if len(data.classes) > 5:
        top5 = _share((so_far[-1].topk(5).indices == labels[:, None]).any(1))
    return Evaluation(
        weights=str(subject.weights),
        data=data.name,
        split=split,
        split_name=subject.data.split_name,
        split_hash=data.split_hash,
        samples=len(labels),
        top1=_share(right[-1]),
        top5=top5,
        by_class={
            name: _share(right[-1][labels == k])
            for k, name in enumerate(data.classes)
            if (labels == k).any()
        },
        by_step=[_share(step) for step in right],
        firing_rate=rates.mean(),
        firing_rates=rates.by_layer(),
        precision=precision,
        facts=subject.card.facts,
        hardware=hardware(),
        versions=versions(),
        git_commit=git_commit(),
    )


def _share(right: Tensor) -> float:
    return right.double().mean().item()
