r"""Integrate-and-fire: $u_t = v_{t-1} + x_t$. The adjoint is derived in README.md beside this file."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels.membrane import Firing


def charge(v: Tensor, x: Tensor) -> Tensor:
    return v + x


def forward(
    current: Tensor,
    v0: Tensor | None = None,
    *options: Any,
    unroll: Callable[..., tuple[Tensor, Tensor]] = membrane.forward,
) -> tuple[Tensor, Tensor]:
    return unroll(charge, current, v0, Firing(*options))


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor,
    current: Tensor,
    v0: Tensor | None = None,
    *options: Any,
) -> tuple[Tensor, Tensor]:
    firing = Firing(*options)
    potentials, spikes = membrane.charged(charge, current, v0, firing)
    grads, grad_v0 = membrane.adjoint(
        grad_spikes, grad_v, potentials, spikes, lambda grad_u: grad_u, firing
    )
    return membrane.stack_like(grads, current), membrane.order_like(grad_v0, current)
