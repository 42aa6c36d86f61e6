"""The network that a word on the command line stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from spikformer.cli._options import chosen
from spikformer.engine import is_engine
from spikformer.errors import ConfigError, first_line, unknown_name

if TYPE_CHECKING:
    from spikformer.probe.subject import Subject

Shape = tuple[int, ...]
TimeAxis = int | Literal["still"]
STEPS = 4
TOKENS = 4
"""Default side of the input in tokens: what is checked does not depend on it, and time does."""


@dataclass(frozen=True)
class Options:
    """What may be said of a network beside its name."""

    input_shape: Shape | None = None
    """Shape of one frame: 3 32 32. A network of your own needs it."""
    steps: int | None = None
    """Time steps T. By default the network's own, else 4."""
    time_axis: TimeAxis | None = None
    """Where a network of your own wants time: 1 by default; 0 for [T, B, ...]; still for
    still images [B, ...]."""
    neuron: str | None = None
    """A neuron of your own in one of our models: file.py:Class."""
    attention: str | None = None
    """An attention, likewise."""


class Named(NamedTuple):
    """A network, how it is fed, and whether it was trained."""

    subject: "Subject"
    trained: bool


def find_network(source: str, options: Options) -> Named:
    """A network by its source.

    That is the name of a model, the folder of a run, a file of weights or of an engine, or
    `file.py:Class`.

    Raises:
        ConfigError: for an unknown name, or an option that has no meaning for this source.
        DataError: when there is no such file.
        WeightsError: when a file does not describe its model.
    """
    from spikformer.probe.subject import Subject

    parts = chosen(neuron=options.neuron, attention=options.attention)
    axis = options.time_axis
    if ":" in source:
        if parts:
            raise ConfigError(
                f"{' and '.join(parts)} can be changed in models of ours, not in {source}"
            )
        if not options.input_shape:
            raise ConfigError(f"{source} needs the shape of a frame, say --input-shape 3 32 32")
        where = None if axis == "still" else 1 if axis is None else axis
        steps = STEPS if options.steps is None else options.steps
        subject = Subject(_own(source), options.input_shape, steps, where)
        return Named(subject, trained=False)
    if is_engine(Path(source)):
        return Named(_compiled(source, parts, options), trained=True)
    if axis is not None:
        raise ConfigError("--time-axis is for networks of your own: those here take [B, T, ...]")
    model, shape, trained = _ours(source, parts)
    steps = model.steps if options.steps is None else options.steps
    subject = Subject(model, options.input_shape or shape, steps)
    return Named(subject, trained)


def _compiled(source: str, parts: dict[str, Any], options: Options) -> "Subject":
    from spikformer.engine import load
    from spikformer.probe.compiled import CompiledNetwork
    from spikformer.probe.subject import Subject

    if parts or options.time_axis is not None:
        raise ConfigError(f"{source} is compiled: its neurons, attention and input are fixed")
    engine = load(source)
    plan = engine.plan
    shape = plan.channels, plan.height, plan.width
    if options.input_shape not in (None, shape):
        raise ConfigError(f"{source} is compiled for {[*shape]}, got {[*options.input_shape]}")
    steps = plan.steps if options.steps is None else options.steps
    return Subject(CompiledNetwork(engine), shape, steps)


def _own(source: str) -> Any:
    import torch

    from spikformer.nn import resolve

    build = resolve("network", source, {})
    torch.manual_seed(0)
    try:
        network = build()
    except Exception as error:
        raise ConfigError(f"{source} failed with {first_line(error)}") from error
    if not isinstance(network, torch.nn.Module):
        raise ConfigError(f"{source} must make a torch.nn.Module, got {type(network).__name__}")
    return network


def _ours(source: str, parts: dict[str, Any]) -> tuple[Any, Sequence[int], bool]:
    """A model, the shape of its frames, and whether it comes with weights."""
    import torch

    from spikformer.models import create_model, list_models, load_model, read_card
    from spikformer.training.evaluation import find_weights

    if source in list_models():
        torch.manual_seed(0)
        model: Any = create_model(source, **parts)
        channels, *_ = model.default_cfg["input_size"]
        side = TOKENS * model.feature_info[-1]["reduction"]
        return model, (channels, side, side), False
    if not Path(source).exists() and not Path(source).suffix and "/" not in source:
        raise unknown_name("model", source, list_models())
    weights = find_weights(source)
    return load_model(weights, **parts), read_card(weights).input_size, True
