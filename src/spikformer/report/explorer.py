"""Single images for a reader to walk through: their spikes, and what attended to what."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.nn import SpikingSelfAttention
from spikformer.nn.attention import max_over_tokens, split_heads
from spikformer.probe import attention_maps, entropy, locality, recorded, rollout
from spikformer.report.looks import Looks
from spikformer.report.pictures import data_uri, one_of_each, packed_bits, packed_bytes

RIGHT_ONES, WRONG_ONES = 10, 4
NEURONS = 64
"""Of each layer in a raster."""
MOST_BYTES = 1_500_000
"""Of what maps are made of, over all images, before it becomes text."""


def explorer_section(looks: Looks) -> dict[str, Any]:
    """Rasters and attention maps of a few images: some of each class, and some that are wrong."""
    some = _some(looks)
    inputs = looks.inputs(some)
    spikes = recorded(looks.model, inputs)
    attention = _attention(looks, inputs, spikes)
    classes = looks.subject.data.classes
    shares, answers = looks.shares[some].max(-1)
    return {
        "steps": len(looks.logits),
        "layers": [
            {"layer": layer, "neurons": x[0, 0].numel(), "shown": min(NEURONS, x[0, 0].numel())}
            for layer, x in spikes.items()
        ],
        **attention["common"],
        "images": [
            {
                "name": f"{looks.split} {int(looks.chosen[at])}: {classes[int(looks.labels[at])]}",
                "answer": classes[int(answers[n])],
                "answer_share": float(shares[n]),
                "right": bool(answers[n] == looks.labels[at]),
                "picture": data_uri(picture),
                "raster": [packed_bits(_evenly(x[:, n].flatten(1))) for x in spikes.values()],
                **(attention["images"][n] if n < len(attention["images"]) else {}),
            }
            for n, (at, picture) in enumerate(zip(some.tolist(), looks.raw(some), strict=True))
        ],
    }


def _some(looks: Looks) -> Int64[Tensor, " m"]:
    right = looks.shares.argmax(-1) == looks.labels
    good, bad = right.nonzero()[:, 0], (~right).nonzero()[:, 0]
    return torch.cat([good[one_of_each(looks.labels[good], RIGHT_ONES)], bad[:WRONG_ONES]])


def _evenly(spikes: Float[Tensor, "T n"]) -> Float[Tensor, "T m"]:
    """Some neurons of a layer, at even distances."""
    count = min(NEURONS, spikes.shape[1])
    return spikes[:, torch.linspace(0, spikes.shape[1] - 1, count).round().long()]


def _attention(looks: Looks, inputs: Tensor, spikes: dict[str, Tensor]) -> dict[str, Any]:
    """What all images have in common, and the maps of each; none for an attention of one's own.

    Maps of spikes are made in the page, of queries and keys: bits, where a map has N x N numbers.
    """
    try:
        maps = attention_maps(looks.model, inputs)
    except ConfigError:
        return {"common": {"blocks": []}, "images": []}
    flow = rollout({name: x.clamp(min=0) for name, x in maps.items()})
    stride = looks.model.stem.strides[-1]
    grid = inputs.shape[-2] // stride, inputs.shape[-1] // stride
    modules = dict(looks.model.named_modules())
    spiking = all(isinstance(modules[name], SpikingSelfAttention) for name in maps)
    if spiking:
        kept = {name: _queries_and_keys(modules[name], spikes[f"{name}.qkv"]) for name in maps}
    else:
        kept = {name: x - x.amin().clamp(max=0) for name, x in maps.items()}
    size = sum(x[:, 0].numel() for x in kept.values()) // (8 if spiking else 1)
    common = {
        "grid": grid,
        "heads": next(iter(maps.values())).shape[2],
        "width": looks.model.embed_dim,
        "spiking": spiking,
        "blocks": [
            {
                "layer": name,
                "entropy": entropy(x.clamp(min=0)).mean((0, 1)).tolist(),
                "locality": locality(x.clamp(min=0), grid).mean((0, 1)).tolist(),
            }
            for name, x in maps.items()
        ],
    }
    images = [
        {
            "maps": [
                (packed_bits(x[:, n]), 1.0) if spiking else packed_bytes(x[:, n])
                for x in kept.values()
            ],
            "rollout": packed_bytes(flow[:, n].mean(1)),
        }
        for n in range(min(max(1, MOST_BYTES // size), inputs.shape[0]))
    ]
    return {"common": common, "images": images}


def _queries_and_keys(
    attention: Any, qkv: Float[Tensor, "T B C H W"]
) -> Float[Tensor, "T B two h N d"]:
    q, k, _ = split_heads(qkv, attention.heads)
    if attention.qk_pool is not None:
        q, k = (max_over_tokens(x, attention.qk_pool) for x in (q, k))
    return torch.stack([q, k], 2)
