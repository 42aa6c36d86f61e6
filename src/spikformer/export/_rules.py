"""What each node of an exported graph becomes in a plan; None refuses it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikformer.export._axes import Axes
from spikformer.export._symbols import Current, Map, Reader, Rule, is_image, is_whole
from spikformer.export.plan import INPUT, Add, Attention, Head, Layer, Neuron, Pool


def _moving(move: Callable[[Axes, Mapping[str, Any], tuple[int, ...]], Axes | None]) -> Rule:
    """The rule of an operation that only moves axes about."""

    def rule(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
        source = reader.of(node.args[0])
        if not isinstance(source, Map | Current):
            return None
        axes = move(source.axes, given, tuple(node.meta["val"].shape))
        return None if axes is None else replace(source, axes=axes)

    return rule


def _moved(axes: Axes, given: Mapping[str, Any], _shape: tuple[int, ...]) -> Axes | None:
    source, destination = (
        [n] if isinstance(n, int) else n for n in (given["source"], given["destination"])
    )
    return axes.moved(source[0], destination[0]) if len(source) == len(destination) == 1 else None


def _expanded(reader: Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    """The current of a still image, seen at every step."""
    source, shape = reader.of(node.args[0]), tuple(node.meta["val"].shape)
    still = (
        isinstance(source, Current)
        and isinstance(source.operation, Layer)
        and source.operation.input == INPUT
        and len(shape) == len(source.axes.groups)
        and shape[1:] == source.axes.shape[1:]
        and reader.steps in (1, shape[0])
    )
    if not still:
        return None
    reader.steps = shape[0]
    return replace(source, axes=source.axes.with_group(0, ("T", shape[0])))


def _unbound(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    """Q, K and V: thirds of the channels. Which one is in `part`, from the next node on."""
    source, dim = reader.of(node.args[0]), given["dim"]
    if not isinstance(source, Map) or source.part is not None:
        return None
    thirds = source.axes.groups[dim] == (("C0", 3),)
    return replace(source, axes=source.axes.without(dim), part=-1) if thirds else None


def _picked(reader: Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    source, index = reader.of(node.args[0]), node.args[1]
    if isinstance(source, Map) and source.part == -1:
        return replace(source, part=index)
    return source if index == 0 else "potential"  # of a neuron: its spikes


def _convolved(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source, name = reader.of(given["input"]), _parameter(reader, given["weight"])
    if not is_whole(source) or name is None:
        return None
    weight = reader.array(given["weight"])
    out, channels, *kernel = weight.shape
    plain = (
        kernel in ([1, 1], [3, 3])
        and is_image(source.axes)
        and all(stride == 1 for stride in given["stride"])
        and all(padding == kernel[0] // 2 for padding in given["padding"])
        and all(dilation == 1 for dilation in given["dilation"])
        and given["groups"] == 1
    )
    if not plain:
        return None
    bias = np.zeros(out) if given["bias"] is None else reader.array(given["bias"])
    layer = Layer(name.removesuffix(".conv"), source.name, "", kernel[0], out, Neuron())
    taps = weight.transpose(2, 3, 1, 0).reshape(kernel[0] ** 2, channels, out)
    return Current(layer, source.axes.with_group(1, ("C", out)), taps, bias)


def _normed(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["input"])
    if not isinstance(source, Current) or source.weight is None or given["training"]:
        return None
    if source.axes.groups[1] != Axes.of(C=source.weight.shape[2]).groups[0]:
        return None
    mean, variance = reader.array(given["running_mean"]), reader.array(given["running_var"])
    scale = 1 / np.sqrt(variance + given["eps"])
    if given["weight"] is not None:
        scale = scale * reader.array(given["weight"])
    assert source.bias is not None
    shift = (source.bias - mean) * scale
    if given["bias"] is not None:
        shift = shift + reader.array(given["bias"])
    return replace(source, weight=source.weight * scale, bias=shift)


def _fired(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    """A neuron over [T, B, C, H, W], time first."""
    source = reader.of(given["current"])
    if not isinstance(source, Current) or given["v0"] is not None or len(source.axes.groups) != 5:
        return None
    steps, batch, channels, height, width = source.axes.shape
    folded, suffix = [("C", channels)], "spikes"
    if isinstance(source.operation, Attention):
        heads = source.operation.heads
        folded, suffix = [("h", heads), ("d", channels // heads)], "attended"
    wanted = Axes.of(T=steps, B=batch, C=channels, H=height, W=width).with_group(2, *folded)
    if source.axes != wanted or steps != reader.steps:
        return None
    name = reader.unused(source.operation.name)
    operation = replace(
        source.operation, name=name, output=f"{name}.{suffix}", neuron=_neuron(reader, given)
    )
    if isinstance(operation, Layer):
        assert source.weight is not None
        assert source.bias is not None
        reader.arrays[f"{name}.weight"] = source.weight
        reader.arrays[f"{name}.bias"] = source.bias
    axes = Axes.of(T=steps, B=batch, C=channels, H=height, W=width)
    return Map(reader.emit(operation), axes)


def _neuron(reader: Reader, given: Mapping[str, Any]) -> Neuron:
    charge, tau, rate = "sum", 1.0, 1.0
    if "tau" in given:
        tau, rate = float(given["tau"]), 1 / float(given["tau"])
        charge = "multiply" if math.frexp(tau)[0] == 0.5 else "divide"
    elif "weight" in given:
        rate = torch.sigmoid(reader.of(given["weight"]).detach()).item()
        charge, tau = "multiply", 1 / rate
    reset = given["v_reset"]
    rest = 0.0 if reset is None else float(reset)
    return Neuron(charge, tau, rate, float(given["threshold"]), rest, reset is None)


def _pooled(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["self"])
    window = [given[name] for name in ("kernel_size", "stride", "padding")]
    if not isinstance(source, Map) or given["ceil_mode"] or given["dilation"] not in (1, [1, 1]):
        return None
    if source.part is not None:
        width = window[0][0]
        tokens = len(source.axes.groups) == 4 and {name for name, _ in source.axes.groups[2]} <= {
            "H",
            "W",
        }
        right = window == [[width, 1], [1, 1], [width // 2, 0]] and tokens
        return replace(source, pool=width) if right and source.pool == 1 else None
    shape = tuple(node.meta["val"].shape)
    if not is_whole(source) or not is_image(source.axes) or window != [[3, 3], [2, 2], [1, 1]]:
        return None
    output = reader.emit(Pool(source.name, f"{source.name}.pooled"))
    axes = source.axes.with_group(2, ("H", shape[2])).with_group(3, ("W", shape[3]))
    return Map(output, axes)


def _added(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    one, two = reader.of(given["self"]), reader.of(given["other"])
    if not (is_whole(one) and is_whole(two)) or one.axes != two.axes or given["alpha"] != 1:
        return None
    return Map(reader.emit(Add(one.name, two.name, node.name)), one.axes)


def _attended(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    """Q, K, V [T, B, h, N, d], taken out of one layer's [T, B, (3 h d), H, W]."""
    parts = [reader.of(given[name]) for name in "qkv"]
    if not all(isinstance(part, Map) and part.part == i for i, part in enumerate(parts)):
        return None
    q, k, v = parts
    atoms = dict(atom for group in q.axes.groups for atom in group)
    height, width = atoms.get("H", 1), atoms.get("W", 1)
    if len(q.axes.groups) != 5 or len({(part.name, part.axes) for part in parts}) > 1:
        return None
    steps, batch, heads, tokens, each = q.axes.shape
    whole = Axes.of(T=steps, B=batch, C=3 * heads * each, H=height, W=width)
    split = whole.reshaped((steps, batch, 3, heads, each, height, width))
    apart = split and split.permuted([0, 1, 3, 5, 6, 4]).reshaped(
        (steps, batch, heads, tokens, each)
    )
    if q.axes != apart or q.pool != k.pool or v.pool != 1:
        return None
    layer = q.name.removesuffix(".spikes")
    name = layer.removesuffix(".qkv") if layer.endswith(".qkv") else f"{layer}.attention"
    axes = Axes.of(T=steps, B=batch, h=heads, N=1, d=each)
    axes = axes.with_group(3, ("H", height), ("W", width))
    return Current(Attention(name, q.name, "", heads, 1.0, Neuron(), q.pool), axes)


def _scaled(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source, factor = reader.of(given["self"]), reader.of(given["other"])
    if not (isinstance(source, Current) and isinstance(source.operation, Attention)):
        return None
    factor = factor.item() if isinstance(factor, Tensor) and factor.numel() == 1 else factor
    if not isinstance(factor, (int, float)):
        return None
    operation = replace(source.operation, scale=source.operation.scale * float(factor))
    return replace(source, operation=operation)


def _averaged(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    """Over steps and positions."""
    source, dims = reader.of(node.args[0]), given.get("dim")
    if not isinstance(source, Map) or source.part is not None or not dims or given["keepdim"]:
        return None
    axes = source.axes
    for dim in sorted((dim % len(axes.groups) for dim in dims), reverse=True):
        if any(name not in "THW" for name, _ in axes.groups[dim]):
            return None
        axes = axes.without(dim)
    return replace(source, axes=axes, mean=True)


def _classified(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source, name = reader.of(given["input"]), _parameter(reader, given["weight"])
    if not isinstance(source, Map) or not source.mean or name is None:
        return None
    if [[name for name, _ in group] for group in source.axes.groups] not in (
        [["B"], ["C"]],
        [["B"], []],
    ):
        return None
    weight = reader.array(given["weight"])
    reader.arrays[f"{name}.weight"] = weight
    bias = np.zeros(len(weight)) if given["bias"] is None else reader.array(given["bias"])
    reader.arrays[f"{name}.bias"] = bias
    return Map(reader.emit(Head(name, source.name, len(weight))), source.axes)


def _cast(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    """To another floating-point type, which spikes and counts do not mind."""
    source, dtype = reader.of(node.args[0]), given.get("dtype")
    exact = dtype in (None, torch.float32, torch.float64) or (
        dtype.is_floating_point and isinstance(source, Map) and source.name != INPUT
    )
    return source if exact else None


def _unchanged(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    return None if given.get("train") else reader.of(node.args[0])  # dropout in eval mode


def _parameter(reader: Reader, argument: Any) -> str | None:
    """The module whose weight this is; None for tensors that were computed."""
    name = getattr(argument, "name", None)
    target = reader.targets.get(name) if isinstance(name, str) else None
    return None if target is None else target.removesuffix(".weight")


_reshaped = _moving(lambda axes, _, shape: axes.reshaped(shape))

RULES: Mapping[str, Rule] = {
    "_assert_tensor_metadata": _unchanged,
    "contiguous": _unchanged,
    "clone": _unchanged,
    "dropout": _unchanged,
    "to": _cast,
    "unsqueeze": _reshaped,
    "squeeze": _reshaped,
    "flatten": _reshaped,
    "unflatten": _reshaped,
    "reshape": _reshaped,
    "view": _reshaped,
    "transpose": _moving(lambda axes, given, _: axes.swapped(given["dim0"], given["dim1"])),
    "mT": _moving(lambda axes, *_: axes.swapped(-2, -1)),
    "permute": _moving(lambda axes, given, _: axes.permuted(given["dims"])),
    "movedim": _moving(_moved),
    "expand": _expanded,
    "unbind": _unbound,
    "getitem": _picked,
    "conv2d": _convolved,
    "batch_norm": _normed,
    "lif": _fired,
    "if_": _fired,
    "plif": _fired,
    "max_pool2d": _pooled,
    "add": _added,
    "spike_attention": _attended,
    "mul": _scaled,
    "mean": _averaged,
    "linear": _classified,
}
"""By the name of the operation."""
