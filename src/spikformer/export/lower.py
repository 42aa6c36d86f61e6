"""From a model to a plan, by way of `torch.export`: there is no second definition of any model.

The exported graph is read node by node. What is not a spiking operation of ours, or only moves
dimensions about, is refused by name.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikformer.errors import ConfigError, first_line
from spikformer.export.plan import INPUT, Add, Attention, Head, Layer, Neuron, Operation, Plan, Pool

Arrays = dict[str, np.ndarray]


def lower(model: nn.Module, example: Tensor) -> tuple[Plan, Arrays]:
    """A model in eval mode as a plan, and its weights with norms folded, in float64.

    Args:
        example: Images [B, C, H, W] or frames [B, T, C, H, W]; the values do not matter.

    Raises:
        ConfigError: when the model cannot be exported, or does what the engine cannot.
    """
    exported = _exported(model, example)
    reader = _Reader(exported, example)
    for node in exported.graph.nodes:
        reader.read(node)
    channels, height, width = example.shape[-3:]
    plan = Plan(channels, height, width, reader.steps, tuple(reader.operations))
    plan.values()
    return plan, reader.arrays


def _exported(model: nn.Module, example: Tensor) -> Any:
    if model.training:
        raise ConfigError("the engine runs networks in eval mode: call model.eval() first")
    try:
        with torch.no_grad():
            return torch.export.export(model, (example[:1],))
    except Exception as error:  # torch.export raises many kinds, with many lines
        raise ConfigError(f"the model cannot be exported: {first_line(error)}") from error


@dataclass(frozen=True)
class _Map:
    """A value of the plan, however its leading dimensions are folded."""

    name: str
    maximum: int


@dataclass(frozen=True)
class _Current:
    """What a neuron is yet to make spikes of: a layer or an attention without one."""

    operation: Layer | Attention
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class _Heads:
    """Q, K and V of a layer's spikes: all three, or the one at `part`."""

    source: _Map
    heads: int
    part: int | None = None
    pool: int = 1


@dataclass(frozen=True)
class _Mean:
    """Features on their way to the head."""

    source: _Map


class _Reader:
    def __init__(self, exported: Any, example: Tensor) -> None:
        signature = exported.graph_signature
        state = dict(exported.state_dict) | dict(exported.constants)
        self.tensors = {
            node: state[target]
            for table in (
                signature.inputs_to_parameters,
                signature.inputs_to_buffers,
                signature.inputs_to_lifted_tensor_constants,
            )
            for node, target in table.items()
            if target in state
        }
        self.targets = dict(signature.inputs_to_parameters)
        self.images = set(signature.user_inputs)
        self.frames = example.dim() == 5
        self.steps = example.shape[1] if self.frames else 1
        self.found: dict[str, Any] = {}
        self.operations: list[Operation] = []
        self.arrays: Arrays = {}

    def read(self, node: Any) -> None:
        if node.op == "placeholder":
            if node.name in self.images:
                self.found[node.name] = _Map(INPUT, 0)
            return
        if node.op == "output":
            return
        name = getattr(node.target, "_opname", None) or getattr(node.target, "__name__", "")
        rule = RULES.get(name)
        result = rule(self, node, _arguments(node)) if rule else None
        if result is None:
            raise ConfigError(
                f"the engine cannot run {name or node.target} at {node.name}: "
                "it knows layers of convolution, norm and neuron, pools, residuals, "
                "spiking self-attention and a linear head"
            )
        self.found[node.name] = result

    def of(self, argument: Any) -> Any:
        """What a node became; numbers and tensors as they are."""
        if not isinstance(argument, torch.fx.Node):
            return argument
        return self.found.get(argument.name, self.tensors.get(argument.name))

    def array(self, argument: Any) -> np.ndarray:
        return self.of(argument).detach().double().cpu().numpy()

    def emit(self, operation: Operation, maximum: int = 1) -> _Map:
        self.operations.append(operation)
        return _Map(operation.output, maximum)


Rule = Callable[[_Reader, Any, Mapping[str, Any]], Any]


def _arguments(node: Any) -> dict[str, Any]:
    """A node's arguments by the names of its operation, with defaults."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(enumerate(node.args))  # type: ignore[return-value] # an operator: no names
    named = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    named |= dict(zip((a.name for a in schema.arguments), node.args, strict=False))
    return named | node.kwargs


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _moved(reader: _Reader, node: Any, given: Mapping[str, Any]) -> Any:
    """Reshapes that keep [C, H, W] at the end, or take heads apart and together."""
    source_node = node.args[0]
    source = reader.of(source_node)
    before, after = _shape(source_node), _shape(node)
    if isinstance(source, _Map) and source.name == INPUT and "transpose" in str(node.target):
        return source if (given["dim0"], given["dim1"]) == (0, 1) else None
    if isinstance(source, _Map) and len(after) == 7 and after[-2:] == before[-2:]:
        return _Heads(source, after[3]) if after[2] == 3 else None
    if isinstance(source, _Map) and len(before) == 5 and given.get("start_dim") == 3:
        return _Mean(source)  # [T, B, D, H W]: the head's, and refused if not
    if before[-3:] != after[-3:] and not isinstance(source, (_Heads, _Current)):
        return None
    return source


def _transposed(reader: _Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    return source if isinstance(source, _Mean) else None


HEADS_APART, HEADS_TOGETHER = [2, 0, 1, 3, 5, 6, 4], [0, 1, 3, 4, 2, 5]


def _permuted(reader: _Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    wanted = {_Heads: HEADS_APART, _Current: HEADS_TOGETHER}.get(type(source))
    return source if given["dims"] == wanted else None


def _channels_moved(reader: _Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    right = (given["source"], given["destination"]) in ((-1, 2), ([-1], [2]))
    return source if isinstance(source, _Current) and right else None


def _expanded(reader: _Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    """A still image's current, seen at every step."""
    reader.steps = _shape(node)[0]
    return reader.of(node.args[0])


def _unbound(reader: _Reader, node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    return source if isinstance(source, _Heads) and given["dim"] == 0 else None


def _picked(reader: _Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    source, index = reader.of(node.args[0]), node.args[1]
    if isinstance(source, _Heads):
        return replace(source, part=index)
    return source if index == 0 else "potential"  # of a neuron: its spikes


def _convolved(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
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
    if not isinstance(source, _Map) or not plain:
        return None
    name = reader.targets[given["weight"].name].removesuffix(".weight").removesuffix(".conv")
    bias = np.zeros(out) if given["bias"] is None else reader.array(given["bias"])
    layer = Layer(name, source.name, f"{name}.spikes", side, out, Neuron())
    taps = weight.transpose(2, 3, 1, 0).reshape(side * side, channels, out)
    return _Current(layer, taps, bias)


def _normed(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["input"])
    if not isinstance(source, _Current) or source.weight is None or given["training"]:
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


def _fired(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["current"])
    if not isinstance(source, _Current) or given["v0"] is not None:
        return None
    operation = replace(source.operation, neuron=_neuron(reader, given))
    if isinstance(operation, Layer):
        assert source.weight is not None
        assert source.bias is not None
        reader.arrays[f"{operation.name}.weight"] = source.weight
        reader.arrays[f"{operation.name}.bias"] = source.bias
    return reader.emit(operation)


def _neuron(reader: _Reader, given: Mapping[str, Any]) -> Neuron:
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


def _pooled(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["self"])
    window = [given[name] for name in ("kernel_size", "stride", "padding")]
    if given["ceil_mode"] or given["dilation"] not in (1, [1, 1]):
        return None
    if isinstance(source, _Heads):
        width = window[0][0]
        right = window == [[width, 1], [1, 1], [width // 2, 0]]
        return replace(source, pool=width) if right and source.pool == 1 else None
    if not isinstance(source, _Map) or window != [[3, 3], [2, 2], [1, 1]]:
        return None
    return reader.emit(Pool(source.name, f"{source.name}.pooled"), source.maximum)


def _added(reader: _Reader, node: Any, given: Mapping[str, Any]) -> Any:
    one, two = reader.of(given["self"]), reader.of(given["other"])
    if not (isinstance(one, _Map) and isinstance(two, _Map)) or given["alpha"] != 1:
        return None
    return reader.emit(Add(one.name, two.name, node.name), one.maximum + two.maximum)


def _attended(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    q, k, v = (reader.of(given[name]) for name in "qkv")
    right = (
        all(isinstance(part, _Heads) for part in (q, k, v))
        and [part.part for part in (q, k, v)] == [0, 1, 2]
        and len({part.source for part in (q, k, v)}) == 1
        and q.pool == k.pool
        and v.pool == 1
    )
    if not right:
        return None
    name = q.source.name.removesuffix(".spikes").removesuffix(".qkv")
    output = f"{name}.attended"
    return _Current(Attention(name, q.source.name, output, q.heads, 1.0, Neuron(), q.pool))


def _scaled(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source, factor = reader.of(given["self"]), reader.of(given["other"])
    if not (isinstance(source, _Current) and isinstance(source.operation, Attention)):
        return None
    factor = factor.item() if isinstance(factor, Tensor) and factor.numel() == 1 else factor
    if not isinstance(factor, (int, float)):
        return None
    operation = replace(source.operation, scale=source.operation.scale * float(factor))
    return replace(source, operation=operation)


def _averaged(reader: _Reader, node: Any, _given: Mapping[str, Any]) -> Any:
    source = reader.of(node.args[0])
    return source if isinstance(source, _Mean) else None


def _classified(reader: _Reader, _node: Any, given: Mapping[str, Any]) -> Any:
    source = reader.of(given["input"])
    if not isinstance(source, _Mean):
        return None
    name = reader.targets[given["weight"].name].removesuffix(".weight")
    weight = reader.array(given["weight"])
    reader.arrays[f"{name}.weight"] = weight
    without = np.zeros(len(weight))
    reader.arrays[f"{name}.bias"] = (
        without if given["bias"] is None else reader.array(given["bias"])
    )
    return reader.emit(Head(name, source.source.name, len(weight)), 0)


def _unchanged(reader: _Reader, node: Any, _given: Mapping[str, Any]) -> Any:
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
"""What each operation of an exported graph becomes; None refuses it."""
