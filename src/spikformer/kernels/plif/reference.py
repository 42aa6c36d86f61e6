r"""Parametric LIF: $u_t = v_{t-1} + \sigma(w)\,(x_t - (v_{t-1} - v_{rest}))$ with a learnable $w$.

Fang et al., ICCV 2021. The adjoint is derived in README.md beside this file.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikformer.kernels import membrane
from spikformer.kernels._declare import accumulator
from spikformer.kernels.membrane import Firing


def drive(v: Tensor, x: Tensor, rest: float) -> Tensor:
    return x - (v - rest) if rest else x - v


def charge(rate: Tensor, rest: float) -> membrane.Charge:
    return lambda v, x: v + drive(v, x, rest) * rate


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
    potentials, spikes = membrane.charged(charge(rate, firing.rest), current, v0, firing)
    grads, grad_v0 = membrane.adjoint(
        grad_spikes, grad_v, potentials, spikes, lambda grad_u: grad_u * (1 - rate), firing
    )
    before = [membrane.start(current, v0, firing), *map(firing.reset, potentials, spikes)]
    grad_rate = torch.stack(
        [
            (grad_u * drive(v, x.to(v.dtype), firing.rest)).sum()
            for grad_u, v, x in zip(grads, before[:-1], current.unbind(), strict=True)
        ]
    ).sum()
    grad_weight = (grad_rate * rate * (1 - rate)).to(weight.dtype)
    grad_current = membrane.stack_like([grad_u * rate for grad_u in grads], current)
    return grad_current, grad_weight, membrane.order_like(grad_v0, current)
