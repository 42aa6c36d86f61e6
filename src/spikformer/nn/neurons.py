r"""Spiking neurons: functions from currents [T, ...] to spikes [T, ...], without hidden state.

Every call starts at rest, so there is nothing to reset between batches. To add a neuron, write a
class here that is called with `threshold=` and add it to `NEURONS`; models then take it by name.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer import kernels
from spikformer.errors import ConfigError


@runtime_checkable
class NeuronFactory(Protocol):
    """What a layer builds its neurons with: a class below, a `partial` of it, or your own."""

    def __call__(self, *, threshold: float) -> nn.Module: ...


class Neuron(nn.Module):
    r"""What all neurons here share: when they fire, and what gradients see of it.

    Args:
        threshold: $\theta$, in the unit of the current.
        v_reset: The potential after a spike and at rest. None subtracts $\theta$ (soft reset).
        detach_reset: Whether gradients ignore that a spike resets the potential.
        surrogate: `sigmoid`, `atan`, `triangle` or `rectangle`.
        alpha: Steepness of the surrogate; None takes 4, 2, 1 and 1.

    Raises:
        ConfigError: for an unknown surrogate, or a `v_reset` that is not below the threshold.
    """

    causal: ClassVar[bool] = True

    def __init__(
        self,
        *,
        threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: str = "sigmoid",
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        firing = kernels.check_firing(threshold, v_reset, detach_reset, surrogate, alpha)
        self.options = firing._asdict()

    def forward(self, current: Float[Tensor, " T *step"]) -> Float[Tensor, " T *step"]:
        spikes, _ = self.integrate(current)
        return spikes

    def integrate(
        self, current: Float[Tensor, " T *step"], v0: Float[Tensor, " *step"] | None = None
    ) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
        """Spikes, and the potential to continue from: `integrate(later, v)` goes on with it."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.options.items())


class IF(Neuron):
    r"""Integrate-and-fire: $u_t = v_{t-1} + x_t$ (Spikformer, table 6)."""

    def integrate(
        self, current: Float[Tensor, " T *step"], v0: Float[Tensor, " *step"] | None = None
    ) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
        return kernels.if_(current, v0, **self.options)


class LIF(Neuron):
    r"""Leaky integrate-and-fire: $u_t = v_{t-1} + (x_t - (v_{t-1} - v_{rest}))/\tau$.

    Spikformer, eq. 1-3.

    Args:
        tau: Membrane time constant $\tau$ in steps, at least 1 (then it forgets at once).
        firing: The arguments of `Neuron`.
    """

    def __init__(self, *, tau: float = 2.0, **firing: Any) -> None:
        super().__init__(**firing)
        if not tau >= 1:
            raise ConfigError(f"tau is a number of steps and must be >= 1, got {tau}")
        self.tau = tau

    def integrate(
        self, current: Float[Tensor, " T *step"], v0: Float[Tensor, " *step"] | None = None
    ) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
        return kernels.lif(current, v0, tau=self.tau, **self.options)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, {super().extra_repr()}"


class PLIF(Neuron):
    r"""LIF with a learnable time constant, $1/\tau = \sigma(w)$, one $w$ a layer.

    Fang et al., ICCV 2021.

    Args:
        tau: Where $\tau$ starts, in steps, above 1.
        firing: The arguments of `Neuron`.
    """

    def __init__(self, *, tau: float = 2.0, **firing: Any) -> None:
        super().__init__(**firing)
        if not tau > 1:
            raise ConfigError(f"tau is a number of steps and must be > 1 to learn, got {tau}")
        self.weight = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def integrate(
        self, current: Float[Tensor, " T *step"], v0: Float[Tensor, " *step"] | None = None
    ) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
        return kernels.plif(current, self.weight, v0, **self.options)


NEURONS: Mapping[str, NeuronFactory] = {"if": IF, "lif": LIF, "plif": PLIF}
