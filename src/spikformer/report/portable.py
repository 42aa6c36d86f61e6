"""A network as plain numbers, for the page to compute by itself."""

import base64
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spikformer.data import DataSet
from spikformer.models import Card, Spikformer
from spikformer.nn import IF, LIF, PLIF, SpikingConv, SpikingSelfAttention

MOST_PARAMETERS = 500_000
"""Of a network that a page can hold: 2.7 MB of text."""
MOST_PIXELS = 32 * 32
"""Of an image that somebody would draw point by point."""


def why_not(model: Spikformer, card: Card, data: DataSet) -> str | None:
    """Why the page cannot compute this network, in a sentence; None when it can."""
    channels, height, width = card.input_size
    parameters = sum(p.numel() for p in model.parameters())
    known = (IF, LIF, PLIF)
    attentions = [part.attention for part in _blocks(model)]
    rules = (
        (data.has_frames, "it takes recordings of events"),
        (channels != 1 or height != width, "its images are no square of one channel"),
        (height * width > MOST_PIXELS, f"its images have more than {MOST_PIXELS:,} pixels"),
        (parameters > MOST_PARAMETERS, f"it has more than {MOST_PARAMETERS:,} parameters"),
        (
            any(type(each) is not SpikingSelfAttention for each in attentions),
            "its attention is not 'ssa'",
        ),
        (
            any(type(m) not in known for n, m in model.named_modules() if n.endswith("neuron")),
            "its neurons are none of 'if', 'lif' and 'plif'",
        ),
    )
    return next((reason for broken, reason in rules if broken), None)


def portable(model: Spikformer, card: Card) -> dict[str, Any]:
    """The network's weights and constants, as `network.js` reads them.

    Weights are float32 in little-endian base64, each tensor a place [offset, length] in it.

    Args:
        model: One for which `why_not` has no reason, in float32.
        card: What its weights say of themselves.
    """
    weights = _Weights()
    names = {module: name for name, module in model.named_modules()}
    head: Any = model.head
    stages: Any = model.stem.stages

    def layer(part: SpikingConv) -> dict[str, Any]:
        conv, norm = part.conv, part.norm
        return {
            "name": names[part],
            "inputs": conv.in_channels,
            "outputs": conv.out_channels,
            "kernel": conv.kernel_size[0],
            "weight": weights.add(conv.weight),
            "bias": None if conv.bias is None else weights.add(conv.bias),
            "norm": [
                weights.add(x)
                for x in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            ],
            "eps": norm.eps,
            "neuron": _neuron(part.neuron),
        }

    def block(part: Any) -> dict[str, Any]:
        attention = part.attention
        return {
            "name": names[attention],
            "heads": attention.heads,
            "width": model.embed_dim,
            "scale": float(torch.as_tensor(attention.scale).detach()),
            "qk_pool": attention.qk_pool,
            "neuron": _neuron(attention.neuron),
            "qkv": layer(attention.qkv),
            "proj": layer(attention.proj),
            "fc1": layer(part.mlp.fc1),
            "fc2": layer(part.mlp.fc2),
        }

    return {
        "steps": model.steps,
        "side": card.input_size[-1],
        "mean": card.mean[0],
        "std": card.std[0],
        "classes": list(card.classes),
        "pools": [isinstance(pool, nn.MaxPool2d) for pool in model.stem.pools],
        "stem": [layer(stage) for stage in stages],
        "position": layer(model.position),
        "blocks": [block(part) for part in _blocks(model)],
        "head": {"weight": weights.add(head.weight), "bias": weights.add(head.bias)},
        "weights": weights.text(),
    }


def _blocks(model: Spikformer) -> Iterator[Any]:
    yield from model.blocks


class _Weights:
    """Tensors behind each other in one stretch of float32."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._length = 0

    def add(self, x: Any) -> tuple[int, int]:
        """Where it lies: offset and length."""
        self._parts.append(x.detach().float().flatten())
        self._length += x.numel()
        return self._length - x.numel(), x.numel()

    def text(self) -> str:
        return base64.b64encode(torch.cat(self._parts).numpy().astype("<f4").tobytes()).decode()


def _neuron(neuron: Any) -> dict[str, Any]:
    options = {name: neuron.options[name] for name in ("threshold", "v_reset")}
    if isinstance(neuron, LIF):
        return {"kind": "lif", "tau": neuron.tau, **options}
    if isinstance(neuron, PLIF):
        return {"kind": "plif", "rate": neuron.weight.double().sigmoid().item(), **options}
    return {"kind": "if", **options}
