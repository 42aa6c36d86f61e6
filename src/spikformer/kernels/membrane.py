r"""The recursion that all neurons share; they differ only in how they charge.

$$u_t = \mathrm{charge}(v_{t-1}, x_t) \qquad s_t = \Theta(u_t - \theta) \qquad v_t =
\begin{cases} (1-s_t)\,u_t + s_t\,v_{reset} & \text{hard reset} \\
u_t - s_t\,\theta & \text{soft reset} \end{cases}$$

$\Theta(0) = 1$. The first step starts from `v0`, or at rest. Spikes have the type of the current,
potentials that of `accumulator`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels._declare import accumulator, declare, differentiate
from spikformer.kernels.surrogate import DERIVATIVES, steepness

PIECE = 1 << 16
"""Neurons a thread takes through all steps at a time: so many potentials stay in its cache."""


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


class Firing(NamedTuple):
    """When a neuron fires, what a spike does to its potential, and what gradients see of it.

    Args:
        threshold: $\\theta$, in the unit of the current.
        v_reset: The potential after a spike (hard reset). None subtracts the threshold (soft).
        detach_reset: Whether gradients ignore that a spike resets the potential.
        surrogate: A name in `surrogate.DERIVATIVES`.
        alpha: Its steepness.
    """

    threshold: float = 1.0
    v_reset: float | None = 0.0
    detach_reset: bool = True
    surrogate: str = "sigmoid"
    alpha: float = 4.0

    @property
    def rest(self) -> float:
        """The potential that a silent neuron leaks to, and starts from."""
        return 0.0 if self.v_reset is None else self.v_reset

    def fire(self, u: Tensor) -> Tensor:
        return (u >= self.threshold).to(u.dtype)

    def reset(self, u: Tensor, s: Tensor) -> Tensor:
        # Products, not `torch.where`: its branches cost an eager CPU ten times as much.
        if self.v_reset is None:
            return u - self.threshold * s
        kept = u * (1 - s)
        return kept + self.v_reset * s if self.v_reset else kept

    def reset_slope(self, u: Tensor) -> Tensor | float:
        """What a spike more does to the potential after the reset."""
        return -self.threshold if self.v_reset is None else self.v_reset - u

    def reset_in_place(self, u: Tensor, s: Tensor) -> None:
        if self.v_reset is None:
            u.sub_(s, alpha=self.threshold)
            return
        u.addcmul_(u, s, value=-1)
        if self.v_reset:
            u.add_(s, alpha=self.v_reset)


FIRING_SCHEMA = (
    "float threshold=1.0, float? v_reset=0.0, bool detach_reset=True, "
    "str surrogate='sigmoid', float alpha=4.0"
)
"""The fields of `Firing` as the last arguments of an operation."""


def check_firing(
    threshold: float,
    v_reset: float | None,
    detach_reset: bool,
    surrogate: str,
    alpha: float | None,
) -> Firing:
    """The arguments as `Firing`, where each is explained; `alpha=None` takes the usual one.

    Raises:
        ConfigError: for an unknown surrogate, a threshold that is no finite number, or a `v_reset`
            that is not below it.
    """
    if not math.isfinite(threshold):
        raise ConfigError(f"threshold must be a finite number, got {threshold}")
    if v_reset is not None and not v_reset < threshold:
        raise ConfigError(f"v_reset must be below the threshold {threshold}, got {v_reset}")
    return Firing(threshold, v_reset, detach_reset, surrogate, steepness(surrogate, alpha))


def check_current(current: Tensor, v0: Tensor | None) -> None:
    """Check what every neuron's operation integrates.

    Raises:
        ConfigError: where a shape or type is wrong.
    """
    if current.dim() == 0 or current.shape[0] == 0:
        raise ConfigError(
            f"current must be [T, ...] with at least one step, got {[*current.shape]}"
        )
    if not current.is_floating_point():
        raise ConfigError(f"current must be a floating-point tensor, got {current.dtype}")
    if v0 is not None and v0.shape != current.shape[1:]:
        raise ConfigError(
            f"v0 must have the shape of one step, {[*current.shape[1:]]}, got {[*v0.shape]}"
        )


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
    order = _memory_order(current)
    currents = _flat(current, order)
    spikes = torch.empty_like(currents, memory_format=torch.contiguous_format)
    v = start(currents, None if v0 is None else _flat(v0[None], order)[0], firing).clone()
    for piece in _pieces(currents):
        u = v[piece]
        x, s = torch.empty_like(u), torch.empty_like(u)
        for current_t, spikes_t in zip(currents[:, piece], spikes[:, piece], strict=True):
            charge.in_place(u, x.copy_(current_t))
            torch.ge(u, firing.threshold, out=s)
            spikes_t.copy_(s)
            firing.reset_in_place(u, s)
    return _unflat(spikes, order, current), _unflat(v[None], order, current[:1])[0]


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
    order = _memory_order(current)
    currents, grads_spikes = _flat(current, order), _flat(grad_spikes, order)
    starts = start(currents, None if v0 is None else _flat(v0[None], order)[0], firing)
    grads_v = _flat(grad_v[None], order)[0].to(starts.dtype, copy=True)
    grads_current = torch.empty_like(currents, memory_format=torch.contiguous_format)
    for piece in _pieces(currents):
        v, x = starts[piece].clone(), torch.empty_like(starts[piece])
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
    grad_v0 = _unflat(grads_v[None], order, current[:1])[0]
    return _unflat(grads_current, order, current), grad_v0


def fake(current: Tensor) -> tuple[Tensor, Tensor]:
    """Results of `forward` without their values."""
    last = _empty_like(current[:1], accumulator(current.dtype)).squeeze(0)
    return _empty_like(current), last


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


def stack_like(steps: Sequence[Tensor], current: Tensor) -> Tensor:
    """[T, ...] in the current's type, each step in the current's memory order."""
    order = _memory_order(current)
    inner = [d - 1 for d in order[1:]]
    stacked = torch.stack([step.permute(inner).to(current.dtype) for step in steps])
    return stacked.permute(_inverse(order))


def order_like(step: Tensor, current: Tensor) -> Tensor:
    """The values of one step in the current's memory order; no copy where it is so already."""
    inner = [d - 1 for d in _memory_order(current)[1:]]
    return step.permute(inner).contiguous().permute(_inverse(inner))


def steps_of(x: Tensor) -> list[Tensor]:
    """The steps, each a view of its own: the results of one `unbind` would be kept for the backward
    pass where compiled, although what they view could be computed again.
    """
    return [x[t] for t in range(x.shape[0])]


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


def _pieces(flat: Tensor) -> Iterator[slice]:
    """Neurons that are taken through all steps together."""
    count = flat.shape[1]
    length = PIECE * torch.get_num_threads() if flat.device.type == "cpu" else max(count, 1)
    return (slice(begin, begin + length) for begin in range(0, count, length))


def _flat(steps: Tensor, order: list[int]) -> Tensor:
    """[T, neurons] in memory order."""
    return steps.permute(order).reshape(steps.shape[0], steps[0].numel())


def _unflat(flat: Tensor, order: list[int], like: Tensor) -> Tensor:
    shape = [like.shape[d] for d in order]
    return flat.view(shape).permute(_inverse(order))


def _empty_like(current: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    order = _memory_order(current)
    shape = [current.shape[d] for d in order]
    return current.new_empty(shape, dtype=dtype).permute(_inverse(order))


def _memory_order(current: Tensor) -> list[int]:
    # Steps lie one after the other, whatever the current did: it may be one step expanded.
    return [0, *sorted(range(1, current.dim()), key=current.stride, reverse=True)]


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
