r"""`spikformer::plif`, the leaky integrate-and-fire neuron that learns its time constant."""

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels import firing, membrane
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
    firing.check_current(current, v0)
    options = firing.check_firing(threshold, v_reset, detach_reset, surrogate, alpha)
    return torch.ops.spikformer.plif(current, weight, v0, *options)


membrane.declare_neuron(
    "plif", reference, schema="Tensor current, Tensor weight, Tensor? v0=None", tensors=3
)
