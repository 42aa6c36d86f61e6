"""What each node of an exported graph becomes in a plan; None refuses it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spikformer.export.plan import INPUT, Add, Attention, Head, Layer, Neuron, Operation, Pool


@dataclass(frozen=True)
class Map:
    """A value of the plan, however its leading dimensions are folded."""

    name: str


@dataclass(frozen=True)
class Current:
    """What a neuron is yet to make spikes of: a layer or an attention without one."""

    operation: Layer | Attention
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Heads:
    """Q, K and V of a layer's spikes: all three, or the one at `part`."""

    source: Map
    heads: int
    part: int | None = None
    pool: int = 1


@dataclass(frozen=True)
class Mean:
    """Features on their way to the head, and the axes that are left of them."""

    source: Map
    axes: str = "TBDN"


class Reader(Protocol):
    """What rules may ask of, and tell, whoever reads the graph."""

    steps: int
    arrays: dict[str, np.ndarray]
    targets: dict[str, str]

    def of(self, argument: Any) -> Any:
        """What a node became; numbers and tensors as they are."""
        ...

    def array(self, argument: Any) -> np.ndarray:
        """A parameter's numbers, in float64."""
        ...

    def emit(self, operation: Operation) -> Map:
        """Append to the plan; what it writes."""
        ...


Rule = Callable[[Reader, Any, Mapping[str, Any]], Any]


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _moved(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    """Reshapes that keep [C, H, W] at the end, or take heads apart and together."""
    source_node = node.args[0]
    source = reader.of(source_node)
    before, after = _shape(source_node), _shape(node)
    if isinstance(source, Map) and source.name == INPUT and "transpose" in str(node.target):
        return source if (given["dim0"], given["dim1"]) == (0, 1) else None
    if isinstance(source, Map) and len(after) == 7 and after[-2:] == before[-2:]:
        return Heads(source, after[3]) if after[2] == 3 else None
    if isinstance(source, Map) and len(before) == 5 and given.get("start_dim") == 3:
        return Mean(source)  # [T, B, D, H W]: the head's, and refused if not
    if before[-3:] != after[-3:] and not isinstance(source, (Heads, Current)):
        return None
    return source


def _transposed(reader: Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    if not isinstance(source, Mean):
        return None
    *before, one, two = source.axes
    return replace(source, axes="".join([*before, two, one]))


HEADS_APART, HEADS_TOGETHER = [2, 0, 1, 3, 5, 6, 4], [0, 1, 3, 4, 2, 5]


def _permuted(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    wanted = {Heads: HEADS_APART, Current: HEADS_TOGETHER}.get(type(source))
    return source if given["dims"] == wanted else None


def _channels_moved(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    right = (given["source"], given["destination"]) in ((-1, 2), ([-1], [2]))
    return source if isinstance(source, Current) and right else None


def _expanded(reader: Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    """A still image's current, seen at every step."""
    reader.steps = _shape(node)[0]
    return reader.of(node.args[0])


def _unbound(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    return source if isinstance(source, Heads) and given["dim"] == 0 else None


def _picked(reader: Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    source, index = reader.of(node.args[0]), node.args[1]
    if isinstance(source, Heads):
        return replace(source, part=index)
    return source if index == 0 else "potential"  # of a neuron: its spikes


def _convolved(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["input"])
    weight = reader.array(given["weight"])
    out, channels, *kernel = weight.shape
    side = kernel[0]
    plain = (
        kernel in ([1, 1], [3, 3])
        and all(stride == 1 for stride in given["stride"])
        and all(padding == side // 2 for padding in given["padding"])
        and all(dilation == 1 for dilation in given["dilation"])
        and given["groups"] == 1
    )
    if not isinstance(source, Map) or not plain:
        return None
    name = reader.targets[given["weight"].name].removesuffix(".weight").removesuffix(".conv")
    bias = np.zeros(out) if given["bias"] is None else reader.array(given["bias"])
    layer = Layer(name, source.name, f"{name}.spikes", side, out, Neuron())
    taps = weight.transpose(2, 3, 1, 0).reshape(side * side, channels, out)
    return Current(layer, taps, bias)


def _normed(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["input"])
    if not isinstance(source, Current) or source.weight is None or given["training"]:
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
    source = reader.of(given["current"])
    if not isinstance(source, Current) or given["v0"] is not None:
        return None
    operation = replace(source.operation, neuron=_neuron(reader, given))
    if isinstance(operation, Layer):
        assert source.weight is not None
        assert source.bias is not None
        reader.arrays[f"{operation.name}.weight"] = source.weight
        reader.arrays[f"{operation.name}.bias"] = source.bias
    return reader.emit(operation)


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


def _pooled(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["self"])
    window = [given[name] for name in ("kernel_size", "stride", "padding")]
    if given["ceil_mode"] or given["dilation"] not in (1, [1, 1]):
        return None
    if isinstance(source, Heads):
        width = window[0][0]
        right = window == [[width, 1], [1, 1], [width // 2, 0]]
        return replace(source, pool=width) if right and source.pool == 1 else None
    if not isinstance(source, Map) or window != [[3, 3], [2, 2], [1, 1]]:
        return None
    return reader.emit(Pool(source.name, f"{source.name}.pooled"))


def _added(reader: Reader, node: Any, given: Mapping[str, Any]) -> Any:
    one, two = reader.of(given["self"]), reader.of(given["other"])
    if not (isinstance(one, Map) and isinstance(two, Map)) or given["alpha"] != 1:
        return None
    return reader.emit(Add(one.name, two.name, node.name))


def _attended(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    q, k, v = (reader.of(given[name]) for name in "qkv")
    right = (
        all(isinstance(part, Heads) for part in (q, k, v))
        and [part.part for part in (q, k, v)] == [0, 1, 2]
        and len({part.source for part in (q, k, v)}) == 1
        and q.pool == k.pool
        and v.pool == 1
    )
    if not right:
        return None
    name = q.source.name.removesuffix(".spikes").removesuffix(".qkv")
    output = f"{name}.attended"
    return Current(Attention(name, q.source.name, output, q.heads, 1.0, Neuron(), q.pool))


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
    source, dims = reader.of(node.args[0]), given.get("dim")
    if not isinstance(source, Mean) or not dims or given["keepdim"]:
        return None
    gone = {source.axes[dim] for dim in dims}
    return replace(source, axes="".join(axis for axis in source.axes if axis not in gone))


def _classified(reader: Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["input"])
    if not isinstance(source, Mean) or source.axes != "BD":
        return None
    name = reader.targets[given["weight"].name].removesuffix(".weight")
    weight = reader.array(given["weight"])
    reader.arrays[f"{name}.weight"] = weight
    without = np.zeros(len(weight))
    reader.arrays[f"{name}.bias"] = (
        without if given["bias"] is None else reader.array(given["bias"])
    )
    return reader.emit(Head(name, source.source.name, len(weight)))


def _unchanged(reader: Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    return reader.of(node.args[0])


RULES: Mapping[str, Rule] = {
    "unsqueeze": _unchanged,
    "to": _unchanged,
    "_assert_tensor_metadata": _unchanged,
    "contiguous": _unchanged,
    "clone": _unchanged,
    "flatten": _moved,
    "unflatten": _moved,
    "reshape": _moved,
    "view": _moved,
    "transpose": _moved,
    "mT": _transposed,
    "permute": _permuted,
    "movedim": _channels_moved,
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
