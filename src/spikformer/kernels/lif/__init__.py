r"""`spikformer::lif`, the leaky integrate-and-fire neuron over all time steps at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from spikformer.errors import ConfigError
from spikformer.kernels import firing, membrane
from spikformer.kernels.lif import reference


def lif(
    current: Float[Tensor, " T *step"],
    v0: Float[Tensor, " *step"] | None = None,
    *,
    tau: float = 2.0,
    threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: str = "sigmoid",
    alpha: float | None = None,
) -> tuple[Float[Tensor, " T *step"], Float[Tensor, " *step"]]:
    r"""Spikes of a leaky integrate-and-fire neuron, and its potential after the last step.

    $$u_t = v_{t-1} + \frac{x_t - (v_{t-1} - v_{rest})}{\tau} \qquad s_t = \Theta(u_t - \theta)
    \qquad v_t = (1-s_t)\,u_t + s_t\,v_{reset}$$

    The drive is divided by $\tau$ too, so that a first current fires from $\tau\theta$ upwards:
    2.0 with the defaults. Spikformer, eq. 1-3.

    Args:
        current: $x$, any floating-point type; half types integrate in float32.
        v0: $v_0$, in the type of the potential. None starts at rest.
        tau: Membrane time constant, in steps, at least 1.
        threshold: $\theta$, in the unit of the current.
        v_reset: The potential after a spike and at rest. None subtracts $\theta$ instead (soft
            reset) and rests at 0.
        detach_reset: Whether gradients ignore that a spike resets the potential.
        surrogate: `sigmoid`, `atan`, `triangle` or `rectangle`; formulas in `surrogate.py`.
        alpha: Steepness of the surrogate, per unit of potential. None takes its usual value.

    Returns:
        Spikes in the current's type, and $v_T$.

    Raises:
        ConfigError: when an argument breaks a rule above.
    """
    if not tau >= 1:
        raise ConfigError(f"tau is a number of steps and must be >= 1, got {tau}")
    firing.check_current(current, v0)
    options = firing.check_firing(threshold, v_reset, detach_reset, surrogate, alpha)
    return torch.ops.spikformer.lif(current, v0, tau, *options)


membrane.declare_neuron(
    "lif", reference, schema="Tensor current, Tensor? v0=None, float tau=2.0", tensors=2
)
