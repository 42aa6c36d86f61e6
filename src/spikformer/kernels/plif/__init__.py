r"""`spikformer::plif`, the leaky integrate-and-fire neuron that learns its time constant."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels import membrane
from spikformer.kernels._declare import declare, differentiate
from spikformer.kernels.membrane import FIRING_SCHEMA
from spikformer.kernels.plif import reference


def plif(
    current: Float[Tensor, " T *step"],
    weight: Float[Tensor, ""],
    v0: Float[Tensor, " *step"] | None = None,
    *,
    threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: str = "sigmoid",
    alpha: float | None = None,
) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
    r"""Spikes of a parametric LIF neuron, and its potential after the last step.

    $$u_t = v_{t-1} + \sigma(w)\,\big(x_t - (v_{t-1} - v_{rest})\big)$$

    and then as `lif`, with $1/\tau = \sigma(w)$. Fang et al., ICCV 2021.

    Args:
        weight: $w$, one number for the whole layer.

    The others are as in `lif`.

    Raises:
        ConfigError: when an argument breaks a rule of `lif`, or `weight` is not one number.
    """
    if weight.dim() != 0:
        raise ConfigError(f"weight must be a single number, got shape {[*weight.shape]}")
    membrane.check_current(current, v0)
    options = membrane.check_firing(threshold, v_reset, detach_reset, surrogate, alpha)
    return torch.ops.spikformer.plif(current, weight, v0, *options)


differentiate(
    declare(
        "plif",
        f"(Tensor current, Tensor weight, Tensor? v0=None, {FIRING_SCHEMA}) -> (Tensor, Tensor)",
        eager=partial(reference.forward, unroll=membrane.forward_eager),
        reference=reference.forward,
        fake=lambda current, *_: membrane.fake(current),
    ),
    declare(
        "plif_backward",
        "(Tensor grad_spikes, Tensor grad_v, Tensor current, Tensor weight, Tensor? v0=None, "
        f"{FIRING_SCHEMA}) -> (Tensor, Tensor, Tensor)",
        eager=reference.backward,
        reference=reference.backward,
        fake=lambda _grad_spikes, _grad_v, current, weight, *_: (
            membrane.fake(current)[0],
            torch.empty_like(weight),
            membrane.fake(current)[1],
        ),
    ),
    tensors=3,
)
