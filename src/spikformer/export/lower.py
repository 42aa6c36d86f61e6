"""From a model to a plan, by way of `torch.export`: there is no second definition of any model.

The exported graph is read node by node. What is not a spiking operation of ours, or only moves
dimensions about, is refused by name.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikformer.errors import ConfigError, WeightsError, first_line
from spikformer.export._axes import Axes
from spikformer.export._rules import RULES
from spikformer.export._symbols import Map
from spikformer.export.plan import INPUT, Attention, Head, Layer, Operation, Plan

Arrays = dict[str, np.ndarray]


def lower(model: nn.Module, example: Tensor) -> tuple[Plan, Arrays]:
    """A model in eval mode as a plan, and its weights with norms folded, in float64.

    Args:
        example: Images [B, C, H, W] or frames [B, T, C, H, W]; the values do not matter.

    Raises:
        ConfigError: when the model cannot be exported, or does what the engine cannot.
    """
    exported = _exported(model, example)
    reader = _GraphReader(exported, example.shape)
    for node in exported.graph.nodes:
        reader.read(node)
    channels, height, width = example.shape[-3:]
    still = example.dim() == 4
    plan = Plan(channels, height, width, reader.steps, tuple(reader.operations), still)
    try:
        plan.values()
    except WeightsError as error:  # each operation is known, and together they are none of ours
        raise ConfigError(f"the engine cannot run this model: {error}") from error
    return plan, reader.arrays


def _exported(model: nn.Module, example: Tensor) -> Any:
    if model.training:
        raise ConfigError("the engine runs networks in eval mode: call model.eval() first")
    try:
        with torch.no_grad():
            return torch.export.export(model, (_batch(example),))
    except Exception as error:  # torch.export raises many kinds, with many lines
        raise ConfigError(f"the model cannot be exported: {first_line(error)}") from error


def _batch(example: Tensor) -> Tensor:
    """As many samples as there are not steps, so that the two cannot be taken for each other."""
    steps = example.shape[1] if example.dim() == 5 else None
    samples = 7 if steps != 7 else 5
    return example[:1].expand(samples, *example.shape[1:])


class _GraphReader:
    def __init__(self, exported: Any, shape: Sequence[int]) -> None:
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
        self.targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.images = set(signature.user_inputs)
        self.shape = shape
        self.steps = shape[1] if len(shape) == 5 else 1
        self.found: dict[str, Any] = {}
        self.operations: list[Operation] = []
        self.arrays: Arrays = {}

    def read(self, node: Any) -> None:
        if node.op == "placeholder":
            if node.name in self.images:
                names = "BTCHW" if len(self.shape) == 5 else "BCHW"
                sizes = dict(zip(names, node.meta["val"].shape, strict=True))
                self.found[node.name] = Map(INPUT, Axes.of(**sizes))
            return
        if node.op == "output":
            self._check_output(node.args[0])
            return
        name = getattr(node.target, "_opname", None) or getattr(node.target, "__name__", "")
        rule = RULES.get(name)
        result = rule(self, node, _arguments(node)) if rule else None
        if result is None:
            raise ConfigError(
                f"the engine cannot run {name or node.target} at {node.name}{_inside(node)}: "
                "it knows layers of convolution, norm and neuron, pools, residuals, "
                "spiking self-attention and a linear head"
            )
        self.found[node.name] = result

    def _check_output(self, results: Any) -> None:
        head = self.operations[-1] if self.operations else None
        answers = [self.of(result) for result in results]
        names = [answer.name if isinstance(answer, Map) else None for answer in answers]
        if not isinstance(head, Head) or names != [head.output]:
            raise ConfigError("the engine answers the logits of a linear head, and nothing else")

    def of(self, argument: Any) -> Any:
        """What a node became; numbers and tensors as they are."""
        if not isinstance(argument, torch.fx.Node):
            return argument
        return self.found.get(argument.name, self.tensors.get(argument.name))

    def array(self, argument: Any) -> np.ndarray:
        return self.of(argument).detach().double().cpu().numpy()

    def emit(self, operation: Operation) -> str:
        written = {INPUT, *(each.output for each in self.operations)}
        output = _unlike(operation.output, written)
        self.operations.append(replace(operation, output=output))
        return output

    def unused(self, name: str) -> str:
        named = (Layer, Attention, Head)
        return _unlike(name, {each.name for each in self.operations if isinstance(each, named)})


def _unlike(name: str, others: Collection[str]) -> str:
    """The name, with a number behind it if it is taken."""
    names = itertools.chain([name], (f"{name} ({n})" for n in itertools.count(2)))
    return next(each for each in names if each not in others)


def _inside(node: Any) -> str:
    """Of which of the model's modules a node is."""
    modules = list(node.meta.get("nn_module_stack", {}).values())
    return f" in {modules[-1][0]}" if modules and modules[-1][0] else ""


def _arguments(node: Any) -> dict[str, Any]:
    """A node's arguments by the names of its operation, with defaults."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(enumerate(node.args))  # type: ignore[return-value] # an operator: no names
    named = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    named |= dict(zip((a.name for a in schema.arguments), node.args, strict=False))
    return named | node.kwargs
