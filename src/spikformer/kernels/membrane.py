r"""The recursion that all neurons share; they differ only in how they charge.

$$u_t = \mathrm{charge}(v_{t-1}, x_t) \qquad s_t = \Theta(u_t - \theta) \qquad v_t =
\begin{cases} (1-s_t)\,u_t + s_t\,v_{reset} & \text{hard reset} \\
u_t - s_t\,\theta & \text{soft reset} \end{cases}$$

$\Theta(0) = 1$. The first step starts from `v0`, or at rest. Spikes have the type of the current,
potentials that of `accumulator`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels._declare import accumulator, declare, differentiate
from spikformer.kernels.surrogate import DERIVATIVES, steepness

Charge = Callable[[Tensor, Tensor], Tensor]
"""(potential after the last reset, current) -> potential before the next one."""


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
    for x in current.unbind():
        _, s, v = _step(charge, v, x, firing)
        spikes.append(s)
    return stack_like(spikes, current), order_like(v, current)


def forward_eager(
    charge: Charge, current: Tensor, v0: Tensor | None, firing: Firing
) -> tuple[Tensor, Tensor]:
    """`forward`, writing each step's spikes where they belong instead of stacking copies."""
    v = start(current, v0, firing)
    spikes = _empty_like(current)
    for x, out in zip(current.unbind(), spikes.unbind(), strict=True):
        _, s, v = _step(charge, v, x, firing)
        out.copy_(s)
    return spikes, order_like(v, current)


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
    for x in current.unbind():
        u, s, v = _step(charge, v, x, firing)
        potentials.append(u)
        spikes.append(s)
    return potentials, spikes


def adjoint(
    grad_spikes: Tensor,
    grad_v: Tensor,
    potentials: Sequence[Tensor],
    spikes: Sequence[Tensor],
    leak: Callable[[Tensor], Tensor],
    firing: Firing,
) -> tuple[list[Tensor], Tensor]:
    r"""$\partial L/\partial u_t$ of every step, and $\partial L/\partial v_0$.

    Args:
        grad_spikes: $\partial L/\partial s$, [T, ...].
        grad_v: $\partial L/\partial v_T$, [...].
        potentials: $u_t$ of every step.
        spikes: $s_t$ of every step, in the type of the potentials.
        leak: $\partial L/\partial u_t \mapsto \partial L/\partial v_{t-1}$.
    """
    grads = []
    derivative = DERIVATIVES[firing.surrogate]
    backwards = (reversed(steps) for steps in (potentials, spikes, grad_spikes.unbind()))
    for u, s, grad_s in zip(*backwards, strict=True):
        slope = derivative(u - firing.threshold, firing.alpha)
        if firing.v_reset is None:
            kept, reset_by_spike = grad_v, -firing.threshold
        else:
            kept = grad_v * (1 - s)
            reset_by_spike = firing.v_reset - u
        grad_s = grad_s.to(u.dtype)
        if not firing.detach_reset:
            grad_s = grad_s + grad_v * reset_by_spike
        grad_u = grad_s * slope + kept
        grad_v = leak(grad_u)
        grads.append(grad_u)
    return grads[::-1], grad_v


def declare_neuron(name: str, reference: ModuleType, *, schema: str, tensors: int) -> None:
    """Declare `spikformer::<name>` and its backward operation.

    Args:
        reference: Module with `forward` and `backward`; the latter returns one gradient a tensor.
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
            eager=partial(reference.forward, unroll=forward_eager),
            reference=reference.forward,
            fake=lambda current, *_: fake(current),
        ),
        declare(
            f"{name.rstrip('_')}_backward",
            f"(Tensor grad_spikes, Tensor grad_v, {schema}, {FIRING_SCHEMA}) -> ({gradients})",
            eager=reference.backward,
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


def start(current: Tensor, v0: Tensor | None, firing: Firing) -> Tensor:
    """The potential before the first step."""
    dtype = accumulator(current.dtype)
    if v0 is None:
        return torch.full_like(current[0], firing.rest, dtype=dtype)
    return v0.to(dtype)


def _step(charge: Charge, v: Tensor, x: Tensor, firing: Firing) -> tuple[Tensor, Tensor, Tensor]:
    """u, s and v after one step."""
    u = charge(v, x.to(v.dtype))
    s = firing.fire(u)
    return u, s, firing.reset(u, s)


def _empty_like(current: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    order = _memory_order(current)
    shape = [current.shape[d] for d in order]
    return current.new_empty(shape, dtype=dtype).permute(_inverse(order))


def _memory_order(current: Tensor) -> list[int]:
    # Steps lie one after the other, whatever the current did: it may be one step expanded.
    return [0, *sorted(range(1, current.dim()), key=current.stride, reverse=True)]


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
