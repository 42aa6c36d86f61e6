r"""Integrate-and-fire: $u_t = v_{t-1} + x_t$. The adjoint is derived in README.md beside this file."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels.firing import Firing

CHARGE = membrane.Charge(
    pure=lambda v, x: v + x,
    in_place=lambda v, x: v.add_(x),
    share=lambda grad_u: (grad_u, grad_u),
    share_in_place=lambda grad_u, grad_x: grad_x.copy_(grad_u),
)


def forward(
    current: Tensor,
    v0: Tensor | None = None,
    *options: Any,
    unroll: Callable[..., tuple[Tensor, Tensor]] = membrane.forward,
) -> tuple[Tensor, Tensor]:
    return unroll(CHARGE, current, v0, Firing(*options))


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor,
    current: Tensor,
    v0: Tensor | None = None,
    *options: Any,
    unroll: Callable[..., tuple[Tensor, Tensor]] = membrane.backward,
) -> tuple[Tensor, Tensor]:
    return unroll(CHARGE, grad_spikes, grad_v, current, v0, Firing(*options))


forward_eager = partial(forward, unroll=membrane.forward_eager)
backward_eager = partial(backward, unroll=membrane.backward_eager)
