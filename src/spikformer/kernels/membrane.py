r"""The recursion that all neurons share; they differ only in how they charge.

$$u_t = \mathrm{charge}(v_{t-1}, x_t) \qquad s_t = \Theta(u_t - \theta) \qquad v_t =
\begin{cases} (1-s_t)\,u_t + s_t\,v_{reset} & \text{hard reset} \\
u_t - s_t\,\theta & \text{soft reset} \end{cases}$$

$\Theta(0) = 1$. The first step starts from `v0`, or at rest. Spikes have the type of the current,
potentials that of `accumulator`.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikformer.kernels._declare import accumulator, declare, differentiate
from spikformer.kernels._order import (
    empty_like_current,
    flat,
    memory_order,
    order_like,
    pieces,
    stack_like,
    steps_of,
    unflat,
)
from spikformer.kernels.firing import FIRING_SCHEMA, Firing
from spikformer.kernels.surrogate import DERIVATIVES


class Charge(NamedTuple):
    """How a neuron integrates: potential after the last reset and current to that before the next.

    Those in place write into their first argument and may lose their second one: an eager CPU is
    several times faster so.

    Args:
        pure: `(v, x) -> u`.
        in_place: The same; u replaces v.
        share: `grad_u -> (grad_x, grad_v)`, what the gradient of u is to its two causes.
        share_in_place: `(grad_u, grad_x)` the same; grad_v replaces grad_u.
    """

    pure: Callable[[Tensor, Tensor], Tensor]
    in_place: Callable[[Tensor, Tensor], Tensor]
    share: Callable[[Tensor], tuple[Tensor, Tensor]]
    share_in_place: Callable[[Tensor, Tensor], Tensor]


def forward(
    charge: Charge, current: Tensor, v0: Tensor | None, firing: Firing
) -> tuple[Tensor, Tensor]:
    """Spikes of all steps and the potential after the last, functionally: what compilers read."""
    v = start(current, v0, firing)
    spikes = []
    for x in steps_of(current):
        _, s, v = _step(charge, v, x, firing)
        spikes.append(s)
    return stack_like(spikes, current), order_like(v, current)


def forward_eager(
    charge: Charge, current: Tensor, v0: Tensor | None, firing: Firing
) -> tuple[Tensor, Tensor]:
    """`forward` in place, piece by piece."""
    order = memory_order(current)
    currents = flat(current, order)
    spikes = torch.empty_like(currents, memory_format=torch.contiguous_format)
    begin = None if v0 is None else flat(v0[None], order)[0]
    v = torch.empty_like(currents[0], dtype=accumulator(current.dtype))
    for piece in pieces(currents):
        u = v[piece].copy_(begin[piece]) if begin is not None else v[piece].fill_(firing.rest)
        x, s = torch.empty_like(u), torch.empty_like(u)
        for current_t, spikes_t in zip(currents[:, piece], spikes[:, piece], strict=True):
            charge.in_place(u, x.copy_(current_t))
            torch.ge(u, firing.threshold, out=s)
            spikes_t.copy_(s)
            firing.reset_in_place(u, s)
    return unflat(spikes, order, current), unflat(v[None], order, current[:1])[0]


def backward(
    charge: Charge,
    grad_spikes: Tensor,
    grad_v: Tensor,
    current: Tensor,
    v0: Tensor | None,
    firing: Firing,
) -> tuple[Tensor, Tensor]:
    """Gradients of the current and of `v0`, functionally: what compilers read."""
    potentials, spikes = charged(charge, current, v0, firing)
    grads, grad_v0 = adjoint(charge, grad_spikes, grad_v, potentials, spikes, firing)
    grad_current = stack_like([charge.share(grad_u)[0] for grad_u in grads], current)
    return grad_current, order_like(grad_v0, current)


def backward_eager(
    charge: Charge,
    grad_spikes: Tensor,
    grad_v: Tensor,
    current: Tensor,
    v0: Tensor | None,
    firing: Firing,
) -> tuple[Tensor, Tensor]:
    """`backward` in place, piece by piece."""
    order = memory_order(current)
    currents, grads_spikes = flat(current, order), flat(grad_spikes, order)
    begin = None if v0 is None else flat(v0[None], order)[0]
    grads_last = flat(grad_v[None], order)[0]
    grads_v = torch.empty_like(grads_last, dtype=accumulator(current.dtype))
    grads_current = torch.empty_like(currents, memory_format=torch.contiguous_format)
    for piece in pieces(currents):
        grads_v[piece] = grads_last[piece]
        x = torch.empty_like(grads_v[piece])
        v = torch.full_like(x, firing.rest) if begin is None else begin[piece].to(x, copy=True)
        potentials, spikes = v.new_empty(2, len(currents), len(v)).unbind()
        for u, s, current_t in zip(potentials, spikes, currents[:, piece], strict=True):
            charge.in_place(u.copy_(v), x.copy_(current_t))
            torch.ge(u, firing.threshold, out=s)
            firing.reset_in_place(v.copy_(u), s)
        for t in reversed(range(len(currents))):
            grad_s = x.copy_(grads_spikes[t, piece])
            grad_u = _adjoint_in_place(grads_v[piece], grad_s, potentials[t], spikes[t], firing)
            charge.share_in_place(grad_u, x)
            grads_current[t, piece] = x
    grad_v0 = unflat(grads_v[None], order, current[:1])[0]
    return unflat(grads_current, order, current), grad_v0


def fake(current: Tensor) -> tuple[Tensor, Tensor]:
    """Results of `forward` without their values."""
    last = empty_like_current(current[:1], accumulator(current.dtype)).squeeze(0)
    return empty_like_current(current), last


def charged(
    charge: Charge, current: Tensor, v0: Tensor | None, firing: Firing
) -> tuple[list[Tensor], list[Tensor]]:
    """Every step's u and s: recomputed for the adjoint, never stored."""
    v = start(current, v0, firing)
    potentials, spikes = [], []
    for x in steps_of(current):
        u, s, v = _step(charge, v, x, firing)
        potentials.append(u)
        spikes.append(s)
    return potentials, spikes


def adjoint(
    charge: Charge,
    grad_spikes: Tensor,
    grad_v: Tensor,
    potentials: Sequence[Tensor],
    spikes: Sequence[Tensor],
    firing: Firing,
) -> tuple[list[Tensor], Tensor]:
    r"""$\partial L/\partial u_t$ of every step, and $\partial L/\partial v_0$.

    Args:
        charge: The neuron's.
        grad_spikes: $\partial L/\partial s$, [T, ...].
        grad_v: $\partial L/\partial v_T$, [...].
        potentials: $u_t$ of every step.
        spikes: $s_t$ of every step, in the type of the potentials.
        firing: The neuron's.
    """
    grads = []
    derivative = DERIVATIVES[firing.surrogate]
    backwards = (reversed(steps) for steps in (potentials, spikes, steps_of(grad_spikes)))
    for u, s, grad_s in zip(*backwards, strict=True):
        slope = derivative(u - firing.threshold, firing.alpha)
        grad_s = grad_s.to(u.dtype)
        if not firing.detach_reset:
            grad_s = grad_s + grad_v * firing.reset_slope(u)
        kept = grad_v if firing.v_reset is None else grad_v * (1 - s)
        grad_u = grad_s * slope + kept
        _, grad_v = charge.share(grad_u)
        grads.append(grad_u)
    return grads[::-1], grad_v


def _adjoint_in_place(
    grad_v: Tensor, grad_s: Tensor, u: Tensor, s: Tensor, firing: Firing
) -> Tensor:
    """One step of `adjoint`: grad_u replaces grad_v; grad_s and u are lost."""
    if not firing.detach_reset:
        grad_s.add_(grad_v * firing.reset_slope(u))
    if firing.v_reset is not None:
        grad_v.addcmul_(grad_v, s, value=-1)
    slope = DERIVATIVES[firing.surrogate](u.sub_(firing.threshold), firing.alpha)
    return grad_v.addcmul_(grad_s, slope)


def declare_neuron(name: str, reference: ModuleType, *, schema: str, tensors: int) -> None:
    """Declare `spikformer::<name>` and its backward operation.

    Args:
        reference: Module with `forward` and `backward`, which returns one gradient a tensor, and
            of each an `_eager` form for what is not compiled.
        schema: The arguments before those of `FIRING_SCHEMA`: `Tensor current`, parameters that
            are tensors, `Tensor? v0=None`, parameters that are not.
        tensors: How many of them are tensors.
    """

    def fake_backward(_grad_spikes: Tensor, _grad_v: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        grad_current, grad_v0 = fake(inputs[0])
        parameters = inputs[1 : tensors - 1]
        return grad_current, *(torch.empty_like(p) for p in parameters), grad_v0

    gradients = ", ".join(["Tensor"] * tensors)
    differentiate(
        declare(
            name,
            f"({schema}, {FIRING_SCHEMA}) -> (Tensor, Tensor)",
            eager=reference.forward_eager,
            reference=reference.forward,
            fake=lambda current, *_: fake(current),
        ),
        declare(
            f"{name.rstrip('_')}_backward",
            f"(Tensor grad_spikes, Tensor grad_v, {schema}, {FIRING_SCHEMA}) -> ({gradients})",
            eager=reference.backward_eager,
            reference=reference.backward,
            fake=fake_backward,
        ),
        tensors=tensors,
    )


def start(current: Tensor, v0: Tensor | None, firing: Firing) -> Tensor:
    """The potential before the first step."""
    dtype = accumulator(current.dtype)
    if v0 is None:
        return torch.full_like(current[0], firing.rest, dtype=dtype)
    return v0.to(dtype)


def _step(charge: Charge, v: Tensor, x: Tensor, firing: Firing) -> tuple[Tensor, Tensor, Tensor]:
    """u, s and v after one step."""
    u = charge.pure(v, x.to(v.dtype))
    s = firing.fire(u)
    return u, s, firing.reset(u, s)
