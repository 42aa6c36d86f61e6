r"""How far float32 may take a neuron from float64, and so when it may decide otherwise.

With $u = 2^{-24}$, a sum of n products in any order is off by at most $(n + 1)\,u \sum |w x|$; folding a
norm rounds each weight and the bias once more. A step of a membrane rounds three times, by at most u
of what it has at hand, and hands its error on, leaked. All to first order; `SLACK` covers the rest.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

UNIT = 2.0**-24
SLACK = 1.01


class Decisions(NamedTuple):
    """Of every neuron and step, [T, B, C, H, W] in float64, along the spikes that were found.

    Args:
        distance: From the potential to the threshold; below 0 it should be silent.
        bound: How much of it rounding may explain.
    """

    distance: np.ndarray
    bound: np.ndarray

    def wrong(self, spikes):
        """Spikes, or silences, that exact arithmetic would not have decided."""
        return spikes.astype(bool) != (self.distance >= 0)


def decisions_of_layer(layer, inputs, spikes):
    """What a `SpikingConv` in float64 makes of inputs [T, B, C, H, W], reset as `spikes` say."""
    x = torch.as_tensor(inputs).double()
    flat = x.flatten(0, 1)
    with torch.no_grad():
        currents = layer.norm(layer.conv(flat))
        scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
        shift = layer.norm.bias - layer.norm.running_mean * scale
        weight = (layer.conv.weight * scale[:, None, None, None]).abs()
        bias = 0 if layer.conv.bias is None else (layer.conv.bias * scale).abs()
        border = layer.conv.kernel_size[0] // 2
        terms = F.conv2d(
            flat.abs().sum(1, keepdim=True), torch.ones_like(weight[:1, :1]), padding=border
        )
        size = F.conv2d(flat.abs(), weight, padding=border) + (bias + shift.abs())[:, None, None]
        # 4: the weight's rounding, its product, the bias and its addition. Without folding, a norm
        # has 6 operations of its own.
        bound = (terms + 10) * UNIT * size
    currents, bound = (each.unflatten(0, x.shape[:2]).numpy() for each in (currents, bound))
    return decisions(layer.neuron, currents, bound, spikes)


def decisions(neuron, currents, bound, spikes):
    """Follows a LIF or IF neuron with hard reset to 0.

    Args:
        bound: Of the currents' errors.
    """
    steps = len(spikes)
    currents = np.broadcast_to(currents, (steps, *currents.shape[1:]))
    bound = np.broadcast_to(bound, currents.shape)
    threshold = neuron.options["threshold"]
    rate = 1 / getattr(neuron, "tau", 1.0)
    leaks = hasattr(neuron, "tau")
    v = error = np.zeros(currents.shape[1:])
    distances, bounds = [], []
    for x, x_error, fired in zip(currents, bound, spikes, strict=True):
        u = v + (x - v) * rate if leaks else v + x
        rounded = 3 * UNIT * (np.abs(v) + np.abs(x) + np.abs(u))
        error = (error * (1 - rate) + x_error * rate if leaks else error + x_error) + rounded
        distances.append(u - threshold)
        bounds.append(error * SLACK)
        v, error = np.where(fired, 0.0, u), np.where(fired, 0.0, error)
    return Decisions(np.stack(distances), np.stack(bounds))
