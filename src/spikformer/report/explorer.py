"""Single images for a reader to walk through: their spikes, and what attended to what."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.nn import SpikingSelfAttention
from spikformer.nn.attention import max_over_tokens, split_heads
from spikformer.probe import attention_maps, entropy, locality, recorded, rollout
from spikformer.report.looks import Looks, Watched
from spikformer.report.pictures import data_uri, one_of_each, packed_bits, packed_bytes

RIGHT_ONES, WRONG_ONES = 10, 4
NEURONS = 64
"""Of each layer in a raster."""
MOST_TEXT = 2_000_000
"""Of all that maps are made of. The first image has them whatever their size."""


def explorer_section(looks: Looks, watched: Watched) -> dict[str, Any]:
    """Rasters and attention maps of a few images: some of each class, and some that are wrong.

    They run one by one: memory is that of one image.
    """
    some = _some(looks)
    stride = looks.model.stem.strides[-1]
    grid = tuple(side // stride for side in looks.subject.card.input_size[1:])
    images: list[dict[str, Any]] = []
    measured: list[tuple[Tensor, Tensor]] = []
    layers: list[dict[str, Any]] = []
    attended: Mapping[str, Tensor] = {}
    text = 0
    for at in watched(some[:, None].unbind(), "walking through single images"):
        inputs = looks.inputs(at)
        spikes = recorded(looks.model, inputs)
        layers = layers or [_layer(layer, x) for layer, x in spikes.items()]
        image = _described(looks, int(at)) | {
            "raster": [packed_bits(_evenly(x[:, 0].flatten(1))) for x in spikes.values()]
        }
        if text < MOST_TEXT:
            attended = _maps(looks, inputs)
            packed = _attention(looks, attended, spikes)
            text += sum(len(each) for each, _ in packed.get("maps", ()))
            image |= packed if text < MOST_TEXT else {}
            measured += [_measures(attended, grid)] if attended else []
        images.append(image)
    return {
        "steps": len(looks.logits),
        "layers": layers,
        "images": images,
        "grid": grid,
        "heads": next((x.shape[2] for x in attended.values()), 0),
        "width": looks.model.embed_dim,
        "spiking": _is_spiking(looks, attended),
        "blocks": _blocks(attended, measured),
    }


def _some(looks: Looks) -> Int64[Tensor, " m"]:
    right = looks.shares.argmax(-1) == looks.labels
    good, bad = right.nonzero()[:, 0], (~right).nonzero()[:, 0]
    return torch.cat([good[one_of_each(looks.labels[good], RIGHT_ONES)], bad[:WRONG_ONES]])


def _described(looks: Looks, at: int) -> dict[str, Any]:
    classes = looks.subject.data.classes
    share, answer = looks.shares[at].max(-1)
    label = int(looks.labels[at])
    return {
        "name": f"{looks.split} {int(looks.chosen[at])}: {classes[label]}",
        "answer": classes[int(answer)],
        "answer_share": float(share),
        "right": int(answer) == label,
        "picture": data_uri(looks.sized(torch.tensor([at]))[0]),
    }


def _layer(name: str, spikes: Float[Tensor, "T 1 *neurons"]) -> dict[str, Any]:
    neurons = spikes[0, 0].numel()
    return {"layer": name, "neurons": neurons, "shown": min(NEURONS, neurons)}


def _evenly(spikes: Float[Tensor, "T n"]) -> Float[Tensor, "T m"]:
    """Some neurons of a layer, at even distances."""
    count = min(NEURONS, spikes.shape[1])
    return spikes[:, torch.linspace(0, spikes.shape[1] - 1, count).round().long()]


def _maps(looks: Looks, inputs: Tensor) -> Mapping[str, Tensor]:
    """None for an attention of one's own."""
    try:
        return attention_maps(looks.model, inputs)
    except ConfigError:
        return {}


def _is_spiking(looks: Looks, maps: Mapping[str, Tensor]) -> bool:
    modules = dict(looks.model.named_modules())
    return all(isinstance(modules[name], SpikingSelfAttention) for name in maps)


def _attention(
    looks: Looks, maps: Mapping[str, Tensor], spikes: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What the page makes maps of: where they count spikes, the bits of queries and keys."""
    if not maps:
        return {}
    if _is_spiking(looks, maps):
        modules = dict(looks.model.named_modules())
        qk = [_queries_and_keys(modules[name], spikes[f"{name}.qkv"]) for name in maps]
        packed = [(packed_bits(x), 1.0) for x in qk]
    else:
        packed = [packed_bytes(x.clamp(min=0)) for x in maps.values()]
    flow = rollout({name: x.clamp(min=0) for name, x in maps.items()})
    return {"maps": packed, "rollout": packed_bytes(flow[:, 0].mean(1))}


def _queries_and_keys(
    attention: Any, qkv: Float[Tensor, "T B C H W"]
) -> Float[Tensor, "T B two h N d"]:
    q, k, _ = split_heads(qkv, attention.heads)
    if attention.qk_pool is not None:
        q, k = (max_over_tokens(x, attention.qk_pool) for x in (q, k))
    return torch.stack([q, k], 2)


def _measures(maps: Mapping[str, Tensor], grid: Any) -> tuple[Tensor, Tensor]:
    """Entropy and locality [blocks, h], as means over steps."""
    positive = [x.clamp(min=0) for x in maps.values()]
    return (
        torch.stack([entropy(x).mean((0, 1)) for x in positive]),
        torch.stack([locality(x, grid).mean((0, 1)) for x in positive]),
    )


def _blocks(
    maps: Mapping[str, Tensor], measured: list[tuple[Tensor, Tensor]]
) -> list[dict[str, Any]]:
    if not measured:
        return []
    entropies, localities = (torch.stack(each).mean(0) for each in zip(*measured, strict=True))
    return [
        {"layer": name, "entropy": entropies[n].tolist(), "locality": localities[n].tolist()}
        for n, name in enumerate(maps)
    ]
