r"""Parametric LIF: $u_t = v_{t-1} + \sigma(w)\,(x_t - (v_{t-1} - v_{rest}))$ with a learnable $w$.

Fang et al., ICCV 2021. The adjoint is derived in README.md beside this file.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels._declare import accumulator
from spikformer.kernels._order import order_like, stack_like, steps_of
from spikformer.kernels.firing import Firing


def drive(v: Tensor, x: Tensor, rest: float) -> Tensor:
    return x - (v - rest) if rest else x - v


def charge(rate: Tensor, rest: float) -> membrane.Charge:
    def share(grad_u: Tensor) -> tuple[Tensor, Tensor]:
        grad_x = grad_u * rate
        return grad_x, grad_u - grad_x

    return membrane.Charge(
        pure=lambda v, x: v + drive(v, x, rest) * rate,
        in_place=lambda v, x: v.add_(x.sub_(v - rest if rest else v).mul_(rate)),
        share=share,
        share_in_place=lambda grad_u, grad_x: grad_u.sub_(torch.mul(grad_u, rate, out=grad_x)),
    )


def leak_rate(weight: Tensor, current: Tensor) -> Tensor:
    r"""$1/\tau = \sigma(w)$, in the type that the membrane integrates in."""
    return torch.sigmoid(weight.to(accumulator(current.dtype)))


def forward(
    current: Tensor,
    weight: Tensor,
    v0: Tensor | None = None,
    *options: Any,
    unroll: Callable[..., tuple[Tensor, Tensor]] = membrane.forward,
) -> tuple[Tensor, Tensor]:
    firing = Firing(*options)
    return unroll(charge(leak_rate(weight, current), firing.rest), current, v0, firing)


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor,
    current: Tensor,
    weight: Tensor,
    v0: Tensor | None = None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    firing = Firing(*options)
    rate = leak_rate(weight, current)
    charge_ = charge(rate, firing.rest)
    potentials, spikes = membrane.charged(charge_, current, v0, firing)
    grads, grad_v0 = membrane.adjoint(charge_, grad_spikes, grad_v, potentials, spikes, firing)
    before = [membrane.start(current, v0, firing), *map(firing.reset, potentials, spikes)]
    grad_rate = torch.stack(
        [
            (grad_u * drive(v, x.to(v.dtype), firing.rest)).sum()
            for grad_u, v, x in zip(grads, before[:-1], steps_of(current), strict=True)
        ]
    ).sum()
    grad_weight = (grad_rate * rate * (1 - rate)).to(weight.dtype)
    grad_current = stack_like([grad_u * rate for grad_u in grads], current)
    return grad_current, grad_weight, order_like(grad_v0, current)


forward_eager = partial(forward, unroll=membrane.forward_eager)
backward_eager = backward  # the gradient of w wants all steps at once
