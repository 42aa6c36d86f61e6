r"""Leaky integrate-and-fire: $u_t = v_{t-1} + (x_t - (v_{t-1} - v_{rest}))/\tau$.

Spikformer, eq. 1-3. The adjoint is derived in README.md beside this file.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels.firing import Firing


def charge(tau: float, rest: float) -> membrane.Charge:
    rate, exact = 1 / tau, math.frexp(tau)[0] == 0.5  # a product, and no rounding: the same bits

    def pure(v: Tensor, x: Tensor) -> Tensor:
        return v + (x - _above(v, rest)) / tau

    def in_place(v: Tensor, x: Tensor) -> Tensor:
        x.sub_(_above(v, rest))
        return v.add_(x, alpha=rate) if exact else v.add_(x.div_(tau))

    def share(grad_u: Tensor) -> tuple[Tensor, Tensor]:
        grad_x = grad_u / tau
        return grad_x, grad_u - grad_x

    def share_in_place(grad_u: Tensor, grad_x: Tensor) -> Tensor:
        part = torch.mul(grad_u, rate, out=grad_x) if exact else torch.div(grad_u, tau, out=grad_x)
        return grad_u.sub_(part)

    return membrane.Charge(pure, in_place, share, share_in_place)


def _above(v: Tensor, rest: float) -> Tensor:
    return v - rest if rest else v  # one subtraction less for the same value


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
    unroll: Callable[..., tuple[Tensor, Tensor]] = membrane.backward,
) -> tuple[Tensor, Tensor]:
    firing = Firing(*options)
    return unroll(charge(tau, firing.rest), grad_spikes, grad_v, current, v0, firing)


forward_eager = partial(forward, unroll=membrane.forward_eager)
backward_eager = partial(backward, unroll=membrane.backward_eager)
