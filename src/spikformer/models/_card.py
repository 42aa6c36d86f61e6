"""What a file of weights says of itself."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from spikformer._files import must_exist
from spikformer.errors import DataError, WeightsError
from spikformer.models.spikformer import Spikformer

CARD_KEY = "spikformer"
"""Where a safetensors file keeps it."""


@dataclass(frozen=True)
class Card:
    """What a file of weights says of itself.

    Args:
        model: A name for `create_model`, or `Spikformer` for the class itself.
        arguments: Those that make this one.
        classes: Names of the classes, in the order of the logits.
        mean: Subtracted from pixels in [0, 1], one number a channel.
        std: What the difference is divided by.
        input_size: C, H, W.
        interpolation: How images were brought to that size.
        split: Name of the split it was trained on.
        facts: Anything else worth keeping: accuracy, seed, recipe.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input_size: tuple[int, int, int] = (3, 32, 32)
    interpolation: str = "bilinear"
    split: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def read_card(path: str | os.PathLike[str]) -> Card:
    """What a file of weights says of itself.

    Raises:
        WeightsError: when it says nothing, or what makes no sense.
        DataError: when there is no such file, or it is damaged.
    """
    source = Path(path)
    if source.is_file() and source.suffix != ".safetensors":
        raise WeightsError(f"{path} does not describe its model; build one and use load_weights")
    with open_safetensors(source) as file:
        metadata = file.metadata() or {}
    if CARD_KEY not in metadata:
        raise WeightsError(f"{path} does not describe its model; build one and use load_weights")
    try:
        return _card_from(dict(json.loads(metadata[CARD_KEY])))
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} describes its model in a way not understood: {error}"
        ) from error


def _card_from(values: dict[str, Any]) -> Card:
    values.update({k: tuple(v) for k, v in values.items() if isinstance(v, list)})
    card = Card(**values)
    for name, kind in (
        ("model", str),
        ("arguments", dict),
        ("facts", dict),
        ("interpolation", str),
        ("split", str),
        ("classes", tuple),
        ("mean", tuple),
        ("std", tuple),
        ("input_size", tuple),
    ):
        if not isinstance(values.get(name, getattr(card, name)), kind):
            raise TypeError(f"{name} is {values[name]!r}")
    numbers = (*card.mean, *card.std, *card.input_size)
    if not all(isinstance(x, int | float) for x in numbers) or len(card.input_size) != 3:
        raise TypeError(f"mean, std or input size are {numbers!r}")
    return card


def to_json(card: Card) -> str:
    """The card as one string.

    Raises:
        WeightsError: when it holds code.
    """
    unnamed = [name for name, value in card.arguments.items() if callable(value)]
    if unnamed:
        raise WeightsError(f"a card cannot hold code: name the {' and '.join(unnamed)} by a string")
    return json.dumps(asdict(card))


def plain_card(network: nn.Module) -> Card:
    """What a network knows of itself."""
    if not isinstance(network, Spikformer):
        return Card(model=type(network).__name__)
    config = vars(network).get("default_cfg", {})
    return Card(
        model=config.get("architecture", type(network).__name__),
        arguments={k: v for k, v in network.arguments.items() if not callable(v)},
        **{name: config[name] for name in ("mean", "std", "interpolation") if name in config},
        input_size=(network.in_chans, *config.get("input_size", Card.input_size)[1:]),
    )


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """A safetensors file, to read from.

    Raises:
        DataError: when there is no such file, or it is damaged.
    """
    must_exist(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or no safetensors file: {error}") from error
