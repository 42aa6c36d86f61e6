r"""Spiking self-attention, and the variants it is compared with in the paper.

To add one, write a class with the signature of `AttentionFactory` and add it to `ATTENTIONS`;
every model then takes it by name.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from spikformer import kernels
from spikformer.errors import ConfigError
from spikformer.nn.layers import SpikingConv
from spikformer.nn.neurons import NeuronFactory

ATTENTION_THRESHOLD = 0.5
"""Of the neuron after the product (Spikformer, app. C.1); every other neuron has 1."""


@runtime_checkable
class AttentionFactory(Protocol):
    """What an encoder block builds its attention with."""

    def __call__(
        self,
        dim: int,
        heads: int,
        *,
        neuron: NeuronFactory,
        scale: float,
        learnable_scale: bool,
        qkv_bias: bool,
        qk_pool: int | None,
    ) -> nn.Module: ...


class SpikingSelfAttention(nn.Module):
    r"""SSA (Spikformer, eq. 14-19): attention by AND and addition.

    $$Q, K, V = \mathrm{SN}(\mathrm{BN}(XW)) \qquad
    \mathrm{SSA}(X) = \mathrm{SN}(\mathrm{BN}(W'\,\mathrm{SN}_{0.5}(QK^\top V \cdot s)))$$

    Q, K and V come out of one layer of width $3D$: one product instead of three, the same values.

    Args:
        dim: Width $D$, a multiple of `heads`.
        heads: $h$.
        neuron: Builds each neuron; called with `threshold=0.5` for the one after the product.
        scale: $s$.
        learnable_scale: Whether $s$ is trained, one number a block, from `scale` on.
        qkv_bias: Whether the first layer has a bias, as the authors' CIFAR model does.
        qk_pool: Width in tokens of a max-pool over Q and K (app. C.1), odd. None for none.

    Raises:
        ConfigError: when `dim` is no multiple of `heads`, or `qk_pool` is even.
    """

    causal: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        neuron: NeuronFactory,
        scale: float = 0.125,
        learnable_scale: bool = False,
        qkv_bias: bool = False,
        qk_pool: int | None = None,
    ) -> None:
        super().__init__()
        _check_heads(dim, heads)
        if qk_pool is not None and (qk_pool < 1 or qk_pool % 2 == 0):
            raise ConfigError(f"qk_pool must be odd and positive, got {qk_pool}")
        self.heads = heads
        self.qk_pool = qk_pool
        self.scale = nn.Parameter(torch.tensor(float(scale))) if learnable_scale else scale
        self.qkv = SpikingConv(dim, 3 * dim, bias=qkv_bias, neuron=neuron)
        self.neuron = neuron(threshold=ATTENTION_THRESHOLD)
        self.proj = SpikingConv(dim, dim, bias=True, neuron=neuron)

    def forward(self, counts: Float[Tensor, "T B D H W"]) -> Float[Tensor, "T B D H W"]:
        q, k, v = split_heads(self.qkv(counts), self.heads)
        if self.qk_pool is not None:
            q, k = (max_over_tokens(x, self.qk_pool) for x in (q, k))
        current = merge_heads(kernels.spike_attention(q, k, v) * self.scale, counts)
        return self.proj(self.neuron(current).to(counts.dtype))


class FloatAttention(nn.Module):
    r"""Attention whose map is made of real Q and K (Spikformer, tables 1, 5 and 6).

    $$Q_F, K_F = \mathrm{BN}(XW) \qquad
    Y = \mathrm{SN}(\mathrm{BN}(W'\,\mathrm{SN}_{0.5}(A(Q_F, K_F)\,V)))$$

    V is in spike form, or real. What the paper leaves open is our choice: each map is followed by
    the same neuron and projection as SSA, unbounded maps are scaled by $s$ as SSA is, and the
    slope of the leaky rectifier is PyTorch's 0.01. Mind that a softmax over tokens whose values all
    fire gives exactly 1, and so a potential exactly on the threshold of 0.5: there rounding decides.

    Args:
        attention_map: $(Q_F, K_F, s) \mapsto A$, all [..., N, d] to [..., N, N].
        float_values: Whether V is left real.

    The others are those of `SpikingSelfAttention`; `learnable_scale` and `qk_pool` are refused.

    Raises:
        ConfigError: for an argument that this attention has no use for.
    """

    causal: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        attention_map: Callable[[Tensor, Tensor, float], Tensor],
        float_values: bool = False,
        neuron: NeuronFactory,
        scale: float = 0.125,
        learnable_scale: bool = False,
        qkv_bias: bool = False,
        qk_pool: int | None = None,
    ) -> None:
        super().__init__()
        _check_heads(dim, heads)
        if learnable_scale or qk_pool is not None:
            raise ConfigError("learnable_scale and qk_pool belong to attention 'ssa' alone")
        self.heads = heads
        self.attention_map = attention_map
        self.scale = scale
        self.qkv = SpikingConv(dim, 3 * dim, bias=qkv_bias, neuron=None)
        self.value_neuron = nn.Identity() if float_values else neuron(threshold=1.0)
        self.neuron = neuron(threshold=ATTENTION_THRESHOLD)
        self.proj = SpikingConv(dim, dim, bias=True, neuron=neuron)

    def forward(self, counts: Float[Tensor, "T B D H W"]) -> Float[Tensor, "T B D H W"]:
        q, k, v = split_heads(self.qkv(counts), self.heads)
        current = self.attention_map(q, k, self.scale) @ self.value_neuron(v)
        return self.proj(self.neuron(merge_heads(current, counts)))


def softmax_map(q: Tensor, k: Tensor, _scale: float) -> Tensor:
    r"""$\mathrm{softmax}(QK^\top/\sqrt{d})$, eq. 12: it needs no other scale."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)


def identity_map(q: Tensor, k: Tensor, scale: float) -> Tensor:
    r"""$QK^\top s$."""
    return q @ k.mT * scale


def relu_map(q: Tensor, k: Tensor, scale: float) -> Tensor:
    r"""$\mathrm{ReLU}(Q)\,\mathrm{ReLU}(K)^\top s$."""
    return F.relu(q) @ F.relu(k).mT * scale


def leaky_relu_map(q: Tensor, k: Tensor, scale: float) -> Tensor:
    r"""The same with a leaky rectifier."""
    return F.leaky_relu(q) @ F.leaky_relu(k).mT * scale


def split_heads(qkv: Float[Tensor, "T B C H W"], heads: int) -> Any:
    """Q, K, V [T, B, h, N, d] from their channels, one after the other."""
    return rearrange(qkv, "T B (three h d) H W -> three T B h (H W) d", three=3, h=heads).unbind()


def merge_heads(
    x: Float[Tensor, "T B h N d"], like: Float[Tensor, "T B D H W"]
) -> Float[Tensor, "T B D H W"]:
    """Back to images, channels innermost in memory, where the next layer wants them."""
    return rearrange(x, "T B h (H W) d -> T B H W (h d)", H=like.shape[-2]).movedim(-1, 2)


def max_over_tokens(x: Float[Tensor, "T B h N d"], width: int) -> Float[Tensor, "T B h N d"]:
    """The maximum over `width` neighbouring tokens in reading order, N kept."""
    pooled = F.max_pool2d(x.flatten(0, 1), (width, 1), stride=1, padding=(width // 2, 0))
    return pooled.unflatten(0, x.shape[:2])


def _check_heads(dim: int, heads: int) -> None:
    if dim % heads:
        raise ConfigError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")


ATTENTIONS: Mapping[str, AttentionFactory] = {
    "ssa": SpikingSelfAttention,
    "vsa": partial(FloatAttention, attention_map=softmax_map),
    "vsa_float": partial(FloatAttention, attention_map=softmax_map, float_values=True),
    "identity": partial(FloatAttention, attention_map=identity_map),
    "relu": partial(FloatAttention, attention_map=relu_map),
    "leaky_relu": partial(FloatAttention, attention_map=leaky_relu_map),
}
