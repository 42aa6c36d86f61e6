"""Attention maps, from the spikes of queries and keys, whichever product ran."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.attention import (
    FloatAttention,
    SpikingSelfAttention,
    max_over_tokens,
    split_heads,
)

Maps = Mapping[str, Float[Tensor, "T B h N N"]]


def attention_maps(model: nn.Module, images: Float[Tensor, "B *T C H W"]) -> Maps:
    r"""How each token attends to each other one: $QK^\top$ of every block, head and step.

    The network may have computed $Q(K^\top V)$, in which no map exists: it is made here of the same
    spikes. Of spiking attention it holds how many channels of a query and a key fired together;
    of the paper's float variants, what they weight values with.

    Returns:
        Layer to its map; queries are rows.

    Raises:
        ConfigError: when the model has no attention of ours.
    """
    maps: dict[str, Tensor] = {}
    hooks = [
        layer.qkv.register_forward_hook(partial(_keep, maps, name, layer))
        for name, layer in model.named_modules()
        if isinstance(layer, SpikingSelfAttention | FloatAttention)
    ]
    if not hooks:
        raise ConfigError("the model has no attention that maps can be made of")
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def _keep(
    maps: dict[str, Tensor], name: str, layer: Any, _module: nn.Module, _args: Any, qkv: Tensor
) -> None:
    q, k, _ = split_heads(qkv, layer.heads)
    if isinstance(layer, FloatAttention):
        maps[name] = layer.attention_map(q, k, layer.scale)
        return
    if layer.qk_pool is not None:
        q, k = (max_over_tokens(x, layer.qk_pool) for x in (q, k))
    maps[name] = q @ k.mT


def shares(attention: Float[Tensor, "*rest N N"]) -> Float[Tensor, "*rest N N"]:
    """Each row divided by its sum; of a silent query, all tokens alike.

    Raises:
        ConfigError: when a map is negative somewhere, as those of real queries and keys may be.
    """
    if (attention < 0).any():
        raise ConfigError("a map that is negative somewhere has no shares")
    sums = attention.sum(-1, keepdim=True)
    alike = torch.full_like(attention, 1 / attention.shape[-1])
    return torch.where(sums > 0, attention / sums.clamp(min=torch.finfo(sums.dtype).tiny), alike)


def rollout(maps: Maps) -> Float[Tensor, "T B N N"]:
    """How much of each token after the last block comes from each one at the input.

    Heads are averaged, and half of each token is its own, by the residual (Abnar and Zuidema, ACL
    2020).
    """
    flow: Tensor | None = None
    for attention in maps.values():
        mixed = shares(attention).mean(-3)
        mixed = (mixed + torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)) / 2
        flow = mixed if flow is None else mixed @ flow
    if flow is None:
        raise ConfigError("there are no maps to roll out")
    return flow


def entropy(attention: Float[Tensor, "*rest N N"]) -> Float[Tensor, "*rest"]:
    r"""Mean entropy of the rows over $\log N$: 1 is uniform, 0 one token alone."""
    p = shares(attention)
    return torch.special.entr(p).sum(-1).mean(-1) / torch.log(torch.tensor(float(p.shape[-1])))


def locality(
    attention: Float[Tensor, "*rest N N"], grid: tuple[int, int]
) -> Float[Tensor, "*rest"]:
    """Mean distance that is attended over, as a share of what uniform attention would give.

    Args:
        attention: Maps over N tokens in reading order.
        grid: Their rows and columns.

    Raises:
        ConfigError: when the grid does not have N places.
    """
    rows, columns = grid
    if rows * columns != attention.shape[-1]:
        raise ConfigError(f"a grid of {rows} x {columns} has no {attention.shape[-1]} tokens")
    at = torch.cartesian_prod(torch.arange(float(rows)), torch.arange(float(columns)))
    distances = torch.cdist(at, at).to(attention)
    return (shares(attention) * distances).sum(-1).mean(-1) / distances.mean()
