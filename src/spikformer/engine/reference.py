r"""What a plan computes, in plain NumPy: the definition that the kernels are held against.

Sums of integer weights are integers, in int64. Sums of float32 weights are float64, rounded once:
kernels sum in float32, and give the same bits where no sum needs rounding. All that follows a sum
is float32, one operation after the other, as csrc/neuron.h has it.

Shapes are [T, B, C, H, W].
"""

from typing import NamedTuple

import numpy as np

from spikformer.export.plan import (
    INPUT,
    Add,
    Attention,
    Head,
    Layer,
    Neuron,
    Operation,
    Plan,
    Pool,
)


class Answer(NamedTuple):
    """All that a network does with some images.

    Args:
        values: Spikes and counts of every operation by its output's name, [T, B, C, H, W].
        logits: Of all steps together, [B, K].
        step_logits: Of each step, [T, B, K].
    """

    values: dict[str, np.ndarray]
    logits: np.ndarray
    step_logits: np.ndarray


def reference(plan: Plan, arrays: dict[str, np.ndarray], images: np.ndarray) -> Answer:
    """What an engine with these weights answers.

    Args:
        images: [B, C, H, W], each seen `plan.steps` times, or frames [B, T, C, H, W].
    """
    pixels = np.asarray(images, np.float32)
    still = pixels.ndim == 4
    values = {INPUT: pixels[None] if still else pixels.swapaxes(0, 1)}
    steps = plan.steps if still else pixels.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # kernels do not mind either
        for operation in plan.operations[:-1]:
            values[operation.output] = _value(operation, values, arrays, steps)
        totals = values[plan.head.input].astype(np.int64).sum((3, 4))
        tokens = np.prod(values[plan.head.input].shape[3:])
        logits = classify(plan.head, arrays, totals.sum(0), float(tokens * steps))
        step_logits = classify(plan.head, arrays, totals, float(tokens))
    del values[INPUT]
    return Answer(values, logits, step_logits)


def _value(
    operation: Operation, values: dict[str, np.ndarray], arrays: dict[str, np.ndarray], steps: int
) -> np.ndarray:
    x = values[operation.input]
    if isinstance(operation, Layer):
        currents = layer_currents(operation, arrays, x)
        shape = steps, *currents.shape[1:]  # a still image's current is the same at every step
        return fire(operation.neuron, np.broadcast_to(currents, shape))
    if isinstance(operation, Attention):
        return fire(operation.neuron, attention_currents(operation, x))
    if isinstance(operation, Pool):
        return pooled(x)
    if isinstance(operation, Add):
        return x + values[operation.other]
    raise TypeError(f"{operation} is none of a plan's operations before its head")


def layer_currents(layer: Layer, arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Sums over taps and channels; times the scale if weights are integers; plus the bias."""
    weight, bias = arrays[f"{layer.name}.weight"], arrays[f"{layer.name}.bias"]
    integers = weight.dtype == np.int8
    exact = np.int64 if integers else np.float64
    border = layer.kernel // 2
    height, width = x.shape[-2:]
    sides = [(0, 0)] * 3 + [(border, border)] * 2
    rows = np.moveaxis(np.pad(x.astype(exact), sides), 2, -1)
    sums = np.zeros((*x.shape[:2], height, width, layer.out_channels), exact)
    for tap, taken in enumerate(weight.astype(exact)):
        y, x_ = divmod(tap, layer.kernel)
        sums += rows[:, :, y : y + height, x_ : x_ + width] @ taken
    currents = sums.astype(np.float32)
    if integers:
        currents = currents * arrays[f"{layer.name}.scale"]
    return np.moveaxis(currents + bias, -1, 2)


def attention_currents(attention: Attention, x: np.ndarray) -> np.ndarray:
    """Q K^T V of every head, times the scale; Q and K are maxima over neighbouring tokens."""
    T, B, channels, height, width = x.shape
    heads = x.astype(np.int64).reshape(T, B, 3, attention.heads, -1, height * width)
    q, k, v = np.moveaxis(heads, 2, 0)  # [T, B, h, d, N] each
    q, k = (_wide(part, attention.pool // 2) for part in (q, k))
    sums = (v @ k.swapaxes(-1, -2)) @ q
    currents = sums.astype(np.float32) * np.float32(attention.scale)
    return currents.reshape(T, B, channels // 3, height, width)


def _wide(spikes: np.ndarray, radius: int) -> np.ndarray:
    """The maximum over the tokens at most `radius` away."""
    tokens = spikes.shape[-1]
    padded = np.pad(spikes, [(0, 0)] * (spikes.ndim - 1) + [(radius, radius)])
    return np.max([padded[..., at : at + tokens] for at in range(2 * radius + 1)], axis=0)


def fire(neuron: Neuron, currents: np.ndarray) -> np.ndarray:
    """Spikes of currents [T, ...], from rest on."""
    threshold, rest = np.float32(neuron.threshold), np.float32(neuron.rest)
    v = np.full(currents.shape[1:], rest)
    spikes = np.zeros(currents.shape, np.int64)
    for step, x in enumerate(currents):
        u = charged(neuron, v, x)
        fired = u >= threshold
        v = np.where(fired, u - threshold if neuron.soft_reset else rest, u)
        spikes[step] = fired
    return spikes


def charged(neuron: Neuron, v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The potential before the reset."""
    if neuron.charge == "sum":
        return v + x
    drive = x - (v - np.float32(neuron.rest))
    if neuron.charge == "multiply":
        return v + drive * np.float32(neuron.rate)
    return v + drive / np.float32(neuron.tau)


def pooled(spikes: np.ndarray) -> np.ndarray:
    """The maximum over windows of 3 x 3 with stride 2."""
    height, width = (-(-side // 2) for side in spikes.shape[-2:])
    padded = np.pad(spikes, [(0, 0)] * 3 + [(1, 2), (1, 2)])
    windows = [
        padded[..., y : y + 2 * height : 2, x : x + 2 * width : 2]
        for y in range(3)
        for x in range(3)
    ]
    return np.max(windows, axis=0)


def classify(
    head: Head, arrays: dict[str, np.ndarray], totals: np.ndarray, divisor: float
) -> np.ndarray:
    """Logits of features `totals / divisor`, added up in float64 from the first channel on."""
    features = (totals / divisor).astype(np.float32).astype(np.float64)
    weight, bias = arrays[f"{head.name}.weight"], arrays[f"{head.name}.bias"]
    sums = np.cumsum(features[..., None, :] * weight.astype(np.float64), axis=-1)[..., -1]
    return (sums + bias).astype(np.float32)
