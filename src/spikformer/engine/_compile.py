"""From a model to an engine: export, fold, measure rates on data, and for int8 calibrate."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from spikformer.engine._calibration import Moments, moments, quantise
from spikformer.engine._engine import Engine
from spikformer.errors import ConfigError, unknown_name
from spikformer.export.plan import INPUT, Layer, Plan

Precision = Literal["float32", "int8"]


def compile(
    model: Any,
    example: Any,
    precision: Precision = "float32",
    *,
    threads: int | None = None,
    instruction_set: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Engine:
    r"""An engine that computes what a model in eval mode does.

    Norms are folded into the weights in float64. In float32, sums round in another order than
    PyTorch's, so that a potential within an ulp or so of its threshold may flip. In int8, weights
    of all layers that read spikes become 8-bit integers with a scale per output channel, and sums
    are exact integers; the first layer, which reads pixels, and the head stay in float32.

    Args:
        model: A `Spikformer`, or any module that exports to the same operations.
        example: Tensor of images [B, C, H, W] or frames [B, T, C, H, W] as the model will see
            them, best some dozens of real ones: rates measured on them decide which layers run by
            events, and int8 is calibrated on them.
        precision: `float32` or `int8`.
        threads: None takes the processors that this process may use.
        instruction_set: None takes the best; see `instruction_sets()`.
        facts: What else its file is to say, as JSON can: classes, means of pixels.

    Raises:
        ConfigError: when the model does what the engine cannot, or an argument is unknown.
    """
    import torch

    from spikformer.export.lower import lower

    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    if getattr(example, "ndim", 0) not in (4, 5) or not len(example):
        raise ConfigError("example must be images [B, C, H, W] or frames [B, T, C, H, W]")
    example = torch.as_tensor(example)
    plan, weights = lower(model, example)
    options = {"threads": threads, "instruction_set": instruction_set}
    floats = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
    measured = moments(Engine(plan, floats, **options), example.detach().float().cpu())
    plan = _with_rates(plan, measured)
    if precision == "int8":
        floats |= quantise(plan, weights, measured)
    return Engine(plan, floats, facts=facts, **options)


def _with_rates(plan: Plan, measured: dict[str, Moments]) -> Plan:
    operations = tuple(
        replace(operation, rate=float(measured[operation.input].mean.mean()))
        if isinstance(operation, Layer) and operation.input != INPUT
        else operation
        for operation in plan.operations
    )
    return replace(plan, operations=operations)
