"""Weights on disk: safetensors that describe themselves, and the authors' checkpoints."""

import argparse
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from spikformer._files import must_exist, replacing
from spikformer.errors import DataError, WeightsError
from spikformer.models import _layouts
from spikformer.models._card import (
    CARD_KEY,
    Card,
    open_safetensors,
    plain_card,
    read_card,
    to_json,
)
from spikformer.models._layouts import NATIVE, Layout, State
from spikformer.models._registry import create_model
from spikformer.models.spikformer import ARGUMENTS, Spikformer

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
        differs: Arguments of this network that the layout's own file fixes to something else: with
            these weights that file computes another function.
    """

    layout: str
    dead: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


def load_weights(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    *,
    ema: bool = False,
    head: bool = True,
) -> WeightsReport:
    """Load weights in any known layout into `model`; it is changed only when all of them fit.

    The layout is told by the keys. That of the first CIFAR release is also Spikformer-CML's,
    which pools before its neurons: the keys cannot tell, the accuracy will.

    Args:
        model: A `Spikformer`.
        source: A path (`.safetensors`, `.pth`, `.pth.tar`) or a state dict.
        ema: Whether to take the averaged weights of a checkpoint that has both.
        head: Whether to take the head too; False keeps the model's own, for other classes.

    Raises:
        WeightsError: when keys or shapes do not fit, or the file holds what must not be loaded.
        DataError: when there is no such file, or it is damaged.
    """
    if isinstance(source, Mapping):
        if ema:
            raise WeightsError("a state dict holds one set of weights: ema=True needs a checkpoint")
        state = dict(source)
    else:
        state = _read(Path(source), ema)
    state, network = _without_wrappers(state), _unwrapped(model)
    like = network.state_dict()
    if not head:  # its name is the same in all layouts
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
        state |= {key: value for key, value in like.items() if key.startswith("head.")}
    layout = _layouts.detect(state)
    if layout == NATIVE:
        _check_native(state, like)
        network.load_state_dict(state)
        return WeightsReport(NATIVE)
    found = _layouts.find_layout(layout)
    native, zeroed, dead = _layouts.to_native(state, found, like)
    network.load_state_dict(native)
    return WeightsReport(layout, tuple(dead), tuple(zeroed), _differences(network, found))


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    layout: str = NATIVE,
    card: Card | None = None,
    dtype: torch.dtype | None = None,
) -> WeightsReport:
    """Write weights, in our layout or one of the authors'.

    Args:
        model: A `Spikformer`.
        path: Ends in `.safetensors`; for the authors' layouts also `.pth` or `.pth.tar`, which
            their scripts read.
        layout: `native`, `cifar10`, `imagenet`, `cifar10dvs` or `cifar10_first`.
        card: What the file is to say of itself, for `native`; by default what the model knows.
        dtype: Type that maps are rounded to, bfloat16 to halve the file; norms keep theirs.

    Raises:
        WeightsError: when the layout has no place for an entry, the suffix is unknown, or the card
            cannot be written.
        ConfigError: for an unknown layout.
    """
    target, network = Path(path), _unwrapped(model)
    if target.suffix != ".safetensors" and (layout == NATIVE or target.suffix not in PICKLES):
        allowed = ".safetensors" if layout == NATIVE else ".safetensors, .pth or .pth.tar"
        raise WeightsError(f"path must end in {allowed} for layout {layout!r}, got {target.name!r}")
    if card is not None and layout != NATIVE:
        raise WeightsError(f"a card goes with layout {NATIVE!r} alone, got {layout!r}")
    state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    if dtype is not None:
        state = {k: v.to(dtype) if v.dim() > 1 else v for k, v in state.items()}
    if layout == NATIVE:
        metadata = {"format": "pt", CARD_KEY: to_json(card or plain_card(network))}
        _write_safetensors(state, target, metadata)
        return WeightsReport(layout)
    found = _layouts.find_layout(layout)
    theirs, missing, dead = _layouts.from_native(state, found)
    if target.suffix == ".safetensors":
        _write_safetensors(theirs, target, {"format": "pt", "layout": layout})
    else:
        with replacing(target) as partial:
            torch.save({"state_dict": theirs}, partial)
    return WeightsReport(layout, tuple(dead), tuple(missing), _differences(network, found))


def _write_safetensors(state: State, target: Path, metadata: dict[str, str]) -> None:
    content = save({key: value.contiguous() for key, value in state.items()}, metadata)
    with replacing(target) as partial:
        partial.write_bytes(content)  # `save_file` would make it readable to its owner alone


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile` and data-parallel wrappers."""
    inner = dict(model.named_children())
    names = [prefix.removesuffix(".") for prefix in WRAPPERS]
    if len(inner) == 1 and next(iter(inner)) in names:
        return _unwrapped(next(iter(inner.values())))
    return model


def _differences(network: nn.Module, layout: Layout) -> tuple[str, ...]:
    if not isinstance(network, Spikformer):
        return ()
    found = network.arguments
    return tuple(
        f"{name} is {found[name]!r} here, {fixed!r} in {layout.source}"
        for name, fixed in layout.fixed().items()
        if found[name] != fixed
    )


def load_model(path: str | os.PathLike[str], **overrides: Any) -> nn.Module:
    """The model that a file describes, in eval mode, with its weights.

    Args:
        path: Weights written with a card.
        overrides: Arguments in place of the card's. A neuron or attention of your own must be
            given here: a file may name code, but it is not followed.

    Raises:
        WeightsError: when the file has no card, or names code that was not given.
        ConfigError: when the card names an unknown model, or arguments that break a rule.
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
    unnamed = card.model == Spikformer.__name__
    model = Spikformer(**arguments) if unnamed else create_model(card.model, **arguments)
    load_weights(model, path)
    return model.eval()


def _read(path: Path, ema: bool) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        if ema:
            raise WeightsError(f"{path} holds one set of weights: ema=True needs a checkpoint")
        with open_safetensors(path) as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 it is no dict
    if path.suffix not in PICKLES:
        raise WeightsError(
            f"weights must be .safetensors, .pth, .pt or .pth.tar, got {path.name!r}"
        )
    must_exist(path)
    try:
        with torch.serialization.safe_globals(TRUSTED):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{path} is damaged or no checkpoint") from error
    return _unwrap(checkpoint, path, ema)


def _refusal(path: Path, message: str) -> str:
    marker = "GLOBAL "
    if marker in message:
        name = message.split(marker, 1)[1].split()[0]
        return f"{path} wants to run {name}, which is not on the list of what may be loaded"
    return f"{path} is damaged or no checkpoint"


def _unwrap(checkpoint: Any, path: Path, ema: bool) -> dict[str, Tensor]:
    names = ("state_dict_ema",) if ema else ("state_dict", "model")
    if isinstance(checkpoint, Mapping):
        inner = next((checkpoint[name] for name in names if name in checkpoint), None)
        if ema and inner is None:
            raise WeightsError(f"{path} has no averaged weights (no entry 'state_dict_ema')")
        state = checkpoint if inner is None else inner
        if isinstance(state, Mapping) and all(isinstance(v, Tensor) for v in state.values()):
            return dict(state)
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
