r"""Leaky integrate-and-fire: $u_t = v_{t-1} + (x_t - (v_{t-1} - v_{rest}))/\tau$.

Spikformer, eq. 1-3. The adjoint is derived in README.md beside this file.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels.membrane import Firing


def charge(tau: float, rest: float) -> membrane.Charge:
    if rest == 0:  # one subtraction less for the same value
        return lambda v, x: v + (x - v) / tau
    return lambda v, x: v + (x - (v - rest)) / tau


def forward(
    current: Tensor,
    v0: Tensor | None = None,
    tau: float = 2.0,
    *options: Any,
    unroll: Callable[..., tuple[Tensor, Tensor]] = membrane.forward,
) -> tuple[Tensor, Tensor]:
    firing = Firing(*options)
    return unroll(charge(tau, firing.rest), current, v0, firing)


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor,
    current: Tensor,
    v0: Tensor | None = None,
    tau: float = 2.0,
    *options: Any,
) -> tuple[Tensor, Tensor]:
    firing = Firing(*options)
    potentials, spikes = membrane.charged(charge(tau, firing.rest), current, v0, firing)
    grads, grad_v0 = membrane.adjoint(
        grad_spikes, grad_v, potentials, spikes, lambda grad_u: grad_u - grad_u / tau, firing
    )
    grad_current = membrane.stack_like([grad_u / tau for grad_u in grads], current)
    return grad_current, membrane.order_like(grad_v0, current)
