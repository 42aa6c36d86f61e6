r"""`spikformer::spike_attention`, the product $QK^\top V$ of spikes, exact in integers."""

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels._declare import declare, differentiate
from spikformer.kernels.spike_attention import reference


def spike_attention(
    q: Float[Tensor, " *heads N d"],
    k: Float[Tensor, " *heads N d"],
    v: Float[Tensor, " *heads N d"],
) -> Float[Tensor, " *heads N d"]:
    r"""Counts $QK^\top V$ of spike-form queries, keys and values (Spikformer, eq. 15, unscaled).

    Spikes are never negative, so $QK^\top$ is a similarity as it stands, the softmax goes, and
    the product associates: $(QK^\top)V$ or $Q(K^\top V)$ is taken, whichever multiplies less.

    Returns:
        Counts of at most $Nd$, in float32 for half types (bfloat16 would round above 256), else
        in the type of `q`.

    Raises:
        ConfigError: when the shapes or types of q, k and v differ.
    """
    if not (q.shape == k.shape == v.shape and q.dtype == k.dtype == v.dtype) or q.dim() < 2:
        found = ", ".join(f"{[*x.shape]} {x.dtype}" for x in (q, k, v))
        raise ConfigError(f"q, k and v must share one shape [..., N, d] and type, got {found}")
    return torch.ops.spikformer.spike_attention(q, k, v)


differentiate(
    declare(
        "spike_attention",
        "(Tensor q, Tensor k, Tensor v) -> Tensor",
        eager=reference.forward_eager,
        reference=reference.forward,
        fake=lambda q, _k, _v: reference.fake(q),
    ),
    declare(
        "spike_attention_backward",
        "(Tensor grad, Tensor q, Tensor k, Tensor v) -> (Tensor, Tensor, Tensor)",
        eager=reference.backward_eager,
        reference=reference.backward,
        fake=lambda _grad, q, k, v: reference.fake_backward(q, k, v),
    ),
    tensors=3,
)
