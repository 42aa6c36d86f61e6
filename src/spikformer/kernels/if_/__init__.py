r"""`spikformer::if_`, the integrate-and-fire neuron without a leak (`if` is taken by Python)."""

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.kernels import firing, membrane
from spikformer.kernels.if_ import reference


def if_(
    current: Float[Tensor, " T *step"],
    v0: Float[Tensor, " *step"] | None = None,
    *,
    threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: str = "sigmoid",
    alpha: float | None = None,
) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
    r"""Spikes of an integrate-and-fire neuron, and its potential after the last step.

    $$u_t = v_{t-1} + x_t \qquad s_t = \Theta(u_t - \theta) \qquad
    v_t = (1-s_t)\,u_t + s_t\,v_{reset}$$

    The paper tries it in place of LIF (Spikformer, table 6). Arguments as in `lif`.

    Raises:
        ConfigError: when an argument breaks a rule of `lif`.
    """
    firing.check_current(current, v0)
    options = firing.check_firing(threshold, v_reset, detach_reset, surrogate, alpha)
    return torch.ops.spikformer.if_(current, v0, *options)


membrane.declare_neuron("if_", reference, schema="Tensor current, Tensor? v0=None", tensors=2)
