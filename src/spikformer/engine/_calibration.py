r"""8-bit weights, fitted to the spikes that they will meet.

A column of weights becomes $w \approx s\,q$ with integers $|q| \le 127$. Of a few scales $s$ that is
taken which keeps the current best on the example, $\sum_k \overline{x_k^2}\,(w_k - s q_k)^2$; then the
bias takes up the mean that is left, $\sum_k \overline{x_k}\,(w_k - s q_k)$. Weights that lie on a
grid of a power of two already keep their values to the bit.
"""

from typing import Any, NamedTuple

import numpy as np

from spikformer.engine._engine import Engine
from spikformer.export.plan import INPUT, Plan

LARGEST = 127
SHRINKS = np.linspace(0.6, 1.0, 9)
"""How much of the largest weight the scale covers; what is beyond is clipped."""
AT_ONCE = 16
FLOOR, TINY = 0.05, 1e-12
"""What is added to the mean square of every input: a share of the layer's own, and a trifle."""


class Moments(NamedTuple):
    """Of a value, over samples and steps: means of x and of x squared, [C, H, W] each."""

    mean: np.ndarray
    square: np.ndarray


def moments(engine: Engine, example: Any) -> dict[str, Moments]:
    """Moments of all spikes and counts by name."""
    sums: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(example), AT_ONCE):
        part = example[first : first + AT_ONCE]
        for name, value in engine.trace(part).items():
            x = value.astype(np.float64)
            here = [x.mean((0, 1)) * len(part), np.square(x).mean((0, 1)) * len(part)]
            before = sums.get(name)
            sums[name] = (
                here if before is None else [a + b for a, b in zip(before, here, strict=True)]
            )
    return {name: Moments(*(s / len(example) for s in both)) for name, both in sums.items()}


def quantise(
    plan: Plan, weights: dict[str, np.ndarray], measured: dict[str, Moments]
) -> dict[str, np.ndarray]:
    """`weight`, `scale` and `bias` in int8 and float32 of every layer that reads spikes."""
    found = {}
    for layer in plan.layers:
        if layer.input == INPUT:
            continue
        weight = weights[f"{layer.name}.weight"]
        mean, square = (by_tap(moment, layer.kernel) for moment in measured[layer.input])
        # What did not fire on the example may fire later: no weight is free.
        integers, scale = _fit(weight, square + FLOOR * square.mean() + TINY)
        left = weight - integers * scale.astype(np.float64)
        shift = np.einsum("kcd,kc->d", left, mean)
        found[f"{layer.name}.weight"] = np.ascontiguousarray(integers, np.int8)
        found[f"{layer.name}.scale"] = scale
        found[f"{layer.name}.bias"] = (weights[f"{layer.name}.bias"] + shift).astype(np.float32)
    return found


def by_tap(moment: np.ndarray, kernel: int) -> np.ndarray:
    """What each tap of a kernel sees on average of [C, H, W], whose border is zero: [taps, C]."""
    _, height, width = moment.shape
    border = kernel // 2
    padded = np.pad(moment, [(0, 0), (border, border), (border, border)])
    return np.stack(
        [
            padded[:, y : y + height, x : x + width].mean((1, 2))
            for y in range(kernel)
            for x in range(kernel)
        ]
    )


def _fit(weight: np.ndarray, mean_square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers [taps, C, D] and scales [D]; the mean squares are [taps, C]."""
    largest = np.abs(weight).max((0, 1))
    largest[largest == 0] = 1.0
    grid = 2.0 ** np.ceil(np.log2(largest / LARGEST))
    best_error = np.full(weight.shape[2], np.inf)
    integers, scale = np.zeros(weight.shape), np.ones(weight.shape[2], np.float32)
    for candidate in (grid, *(largest / LARGEST * shrink for shrink in SHRINKS[::-1])):
        s = candidate.astype(np.float32)
        q = np.clip(np.rint(weight / s), -LARGEST, LARGEST)
        error = np.einsum("kcd,kc->d", np.square(weight - q * s), mean_square)
        better = error < best_error
        best_error[better], scale[better] = error[better], s[better]
        integers[..., better] = q[..., better]
    return integers, scale
