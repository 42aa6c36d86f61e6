"""When a neuron fires, and what a spike does: the options that all neurons share."""

import math
from typing import NamedTuple

from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels.surrogate import steepness


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
