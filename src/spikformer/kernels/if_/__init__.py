r"""`spikformer::if_`, the integrate-and-fire neuron without a leak (`if` is taken by Python)."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels._declare import declare, differentiate
from spikformer.kernels.if_ import reference
from spikformer.kernels.membrane import FIRING_SCHEMA


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
    membrane.check_current(current, v0)
    options = membrane.check_firing(threshold, v_reset, detach_reset, surrogate, alpha)
    return torch.ops.spikformer.if_(current, v0, *options)


differentiate(
    declare(
        "if_",
        f"(Tensor current, Tensor? v0=None, {FIRING_SCHEMA}) -> (Tensor, Tensor)",
        eager=partial(reference.forward, unroll=membrane.forward_eager),
        reference=reference.forward,
        fake=lambda current, *_: membrane.fake(current),
    ),
    declare(
        "if_backward",
        "(Tensor grad_spikes, Tensor grad_v, Tensor current, Tensor? v0=None, "
        f"{FIRING_SCHEMA}) -> (Tensor, Tensor)",
        eager=reference.backward,
        reference=reference.backward,
        fake=lambda _grad_spikes, _grad_v, current, *_: membrane.fake(current),
    ),
    tensors=2,
)
