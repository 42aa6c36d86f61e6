"""Weights on disk: safetensors that describe themselves, and the authors' checkpoints."""

import argparse
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spikformer._files import replacing
from spikformer.errors import DataError, WeightsError
from spikformer.models import _layouts
from spikformer.models._layouts import NATIVE
from spikformer.models._registry import create_model
from spikformer.models.spikformer import ARGUMENTS

CARD_KEY = "spikformer"
PICKLES = (".pth", ".pt", ".tar", ".bin")
WRAPPERS = ("module.", "_orig_mod.")
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
TRUSTED = [
    argparse.Namespace,
    # timm's saver writes the metric as a NumPy scalar, under the module names of old and new NumPy.
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
]
"""All that a foreign checkpoint may hold besides tensors, numbers, strings and containers."""


@dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` or `save_weights` did with each entry that has no twin.

    Args:
        layout: The layout of the file.
        dead: Entries of the file that no forward pass reads: dropped, or written as their
            constructor leaves them.
        missing: Entries that one side does not have: biases in front of a norm, set to 0.
    """

    layout: str
    dead: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """What a file of weights says of itself.

    Args:
        model: A name for `create_model`, and the `arguments` that make this one.
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


def load_weights(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    *,
    ema: bool = False,
) -> WeightsReport:
    """Load weights in any known layout into `model`; it is changed only when all of them fit.

    The layout is told by the keys. That of the first CIFAR release is also Spikformer-CML's,
    which pools before its neurons: the keys cannot tell, the accuracy will.

    Args:
        model: A `Spikformer`.
        source: A path (`.safetensors`, `.pth`, `.pth.tar`) or a state dict.
        ema: Whether to take the averaged weights of a checkpoint that has both.

    Raises:
        WeightsError: when keys or shapes do not fit, or the file holds what must not be loaded.
        DataError: when there is no such file, or it is damaged.
    """
    state = dict(source) if isinstance(source, Mapping) else _read(Path(source), ema)
    like = model.state_dict()
    layout = _layouts.detect(state)
    if layout == NATIVE:
        _check_native(state, like)
        model.load_state_dict(state)
        return WeightsReport(NATIVE)
    found = _layouts.find_layout(layout)
    native, zeroed = _layouts.to_native(state, found, like)
    model.load_state_dict(native)
    dead = _layouts.dead_entries(found, like)
    return WeightsReport(layout, tuple(key for key in state if key in dead), tuple(zeroed))


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    layout: str = NATIVE,
    card: Card | None = None,
) -> WeightsReport:
    """Write weights, in our layout or one of the authors'.

    Args:
        model: A `Spikformer`.
        path: Ends in `.safetensors`; for the authors' layouts also `.pth` or `.pth.tar`, which
            their scripts read.
        layout: `native`, `cifar10`, `imagenet`, `cifar10dvs` or `cifar10_first`.
        card: What the file is to say of itself; without one, `load_model` cannot read it.

    Raises:
        WeightsError: when the layout has no place for an entry, or the suffix is unknown.
        ConfigError: for an unknown layout.
    """
    target = Path(path)
    state: dict[str, Tensor] = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    report = WeightsReport(layout)
    if layout != NATIVE:
        found = _layouts.find_layout(layout)
        dead = _layouts.dead_entries(found, state)
        state, filled = _layouts.from_native(state, found)
        missing = tuple(key for key in filled if key not in dead)
        report = WeightsReport(layout, tuple(dead), missing)
    if target.suffix in PICKLES and layout != NATIVE:
        with replacing(target) as partial:
            torch.save({"state_dict": state}, partial)
    elif target.suffix == ".safetensors":
        metadata = {"format": "pt", "layout": layout}
        if card is not None:
            metadata[CARD_KEY] = _as_json(card)
        with replacing(target) as partial:
            save_file({k: v.contiguous() for k, v in state.items()}, partial, metadata)
    else:
        allowed = ".safetensors" if layout == NATIVE else ".safetensors, .pth or .pth.tar"
        raise WeightsError(f"path must end in {allowed} for layout {layout!r}, got {target.name!r}")
    return report


def _as_json(card: Card) -> str:
    unnamed = [name for name, value in card.arguments.items() if callable(value)]
    if unnamed:
        raise WeightsError(f"a card cannot hold code: name the {' and '.join(unnamed)} by a string")
    return json.dumps(asdict(card))


def load_model(path: str | os.PathLike[str], **overrides: Any) -> nn.Module:
    """The model that a file describes, in eval mode, with its weights.

    Args:
        path: Weights written with a card.
        overrides: Arguments in place of the card's. A neuron or attention of your own must be
            given here: a file may name code, but it is not followed.

    Raises:
        WeightsError: when the file has no card, or names code that was not given.
        DataError: when there is no such file, or it is damaged.
    """
    card = read_card(path)
    arguments = card.arguments | overrides
    for part in ("neuron", "attention"):
        if part not in overrides and ":" in str(arguments.get(part, "")):
            raise WeightsError(
                f"{path} needs the {part} {arguments[part]!r}, and code named by a file is not "
                f"loaded: pass {part}= yourself"
            )
    if foreign := sorted(set(card.arguments) - ARGUMENTS):
        raise WeightsError(f"{path} names arguments that no network has: {', '.join(foreign)}")
    model = create_model(card.model, **arguments)
    load_weights(model, path)
    return model.eval()


def read_card(path: str | os.PathLike[str]) -> Card:
    """What a file of weights says of itself.

    Raises:
        WeightsError: when it says nothing.
        DataError: when there is no such file, or it is damaged.
    """
    _, metadata = _read_safetensors(Path(path))
    if CARD_KEY not in metadata:
        raise WeightsError(f"{path} does not describe its model; build one and use load_weights")
    try:
        values: dict[str, Any] = dict(json.loads(metadata[CARD_KEY]))
        values.update({k: tuple(v) for k, v in values.items() if isinstance(v, list)})
        return Card(**values)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} describes its model in a way not understood: {error}"
        ) from error


def _read(path: Path, ema: bool) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        state, _ = _read_safetensors(path)
        return state
    if path.suffix not in PICKLES:
        raise WeightsError(
            f"weights must be .safetensors, .pth, .pt or .pth.tar, got {path.name!r}"
        )
    _exists(path)
    try:
        with torch.serialization.safe_globals(TRUSTED):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from error
    return _unwrap(checkpoint, path, ema)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    _exists(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return state, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or no safetensors file: {error}") from error


def _exists(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")


def _refusal(path: Path, message: str) -> str:
    marker = "GLOBAL "
    if marker in message:
        name = message.split(marker, 1)[1].split()[0]
        return f"{path} wants to run {name}, which is not on the list of what may be loaded"
    return f"{path} is damaged or no checkpoint: {_first_line(message)}"


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _unwrap(checkpoint: Any, path: Path, ema: bool) -> dict[str, Tensor]:
    names = ("state_dict_ema",) if ema else ("state_dict", "model")
    if isinstance(checkpoint, Mapping):
        inner = next((checkpoint[name] for name in names if name in checkpoint), None)
        if ema and inner is None:
            raise WeightsError(f"{path} has no averaged weights (no entry 'state_dict_ema')")
        state = checkpoint if inner is None else inner
        if isinstance(state, Mapping) and all(isinstance(v, Tensor) for v in state.values()):
            return _without_wrappers(dict(state))
    raise WeightsError(f"{path} holds no state dict (looked for {' or '.join(names)})")


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in WRAPPERS:
        if state and all(key.startswith(prefix) for key in state):
            return _without_wrappers({k.removeprefix(prefix): v for k, v in state.items()})
    return state


def _check_native(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    problems = {
        "missing": sorted(set(like) - set(state)),
        "unexpected": sorted(set(state) - set(like)),
        "of another shape": [k for k in like if k in state and state[k].shape != like[k].shape],
    }
    for problem, keys in problems.items():
        _layouts.complain(problem, keys)
