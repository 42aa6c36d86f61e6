r"""Surrogate gradients: what stands in for the derivative of the step $\Theta$ in the backward pass.

$x = u - \theta$ is the distance of the potential from the threshold. Every derivative below has
area 1 over $x$, as the step's own would; `alpha` makes it steeper and narrower. The choice never
touches the forward pass. Review: Neftci, Mostafa, Zenke, IEEE Signal Process. Mag. 2019.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from spikformer.errors import ConfigError, unknown_name


def sigmoid(x: Tensor, alpha: float) -> Tensor:
    r"""$\alpha\,\sigma(\alpha x)\,(1-\sigma(\alpha x))$, peak $\alpha/4$ (Spikformer, eq. 20)."""
    s = torch.sigmoid(alpha * x)
    return alpha * s * (1 - s)


def atan(x: Tensor, alpha: float) -> Tensor:
    r"""$\frac{\alpha/2}{1+(\frac{\pi}{2}\alpha x)^2}$, peak $\alpha/2$ (Fang et al., ICCV 2021)."""
    return (alpha / 2) / (1 + (torch.pi / 2 * alpha * x) ** 2)


def triangle(x: Tensor, alpha: float) -> Tensor:
    r"""$\alpha\,\max(0, 1-\alpha|x|)$, peak $\alpha$ (Deng et al., ICLR 2022, $\gamma=1/\alpha$)."""
    return alpha * torch.clamp(1 - alpha * x.abs(), min=0)


def rectangle(x: Tensor, alpha: float) -> Tensor:
    r"""$\alpha\,[\,|x| < \frac{1}{2\alpha}\,]$, height $\alpha$ (Wu et al., 2018, $a=1/\alpha$)."""
    return alpha * (x.abs() < 0.5 / alpha).to(x.dtype)


DERIVATIVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": sigmoid,
    "atan": atan,
    "triangle": triangle,
    "rectangle": rectangle,
}
DEFAULT_ALPHA = {"sigmoid": 4.0, "atan": 2.0, "triangle": 1.0, "rectangle": 1.0}


def steepness(surrogate: str, alpha: float | None) -> float:
    """`alpha`, or the usual one of `surrogate` when it is None.

    Raises:
        ConfigError: for an unknown surrogate, or an alpha that is not positive.
    """
    if surrogate not in DERIVATIVES:
        raise unknown_name("surrogate", surrogate, DERIVATIVES)
    if alpha is None:
        return DEFAULT_ALPHA[surrogate]
    if alpha <= 0:
        raise ConfigError(f"alpha must be positive, got {alpha}")
    return alpha
