"""The network that a word on the command line stands for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from spikformer.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from spikformer.probe.subject import Subject

Shape = tuple[int, ...]
TimeAxis = int | Literal["none"]
TOKENS = 4
"""Default side of the input in tokens: what is checked does not depend on it, and time does."""


class Named(NamedTuple):
    """A network, how it is fed, and whether it was trained."""

    subject: "Subject"
    trained: bool


def find_network(
    source: str,
    *,
    input_shape: Shape | None = None,
    steps: int | None = None,
    time_axis: TimeAxis | None = None,
    **parts: Any,
) -> Named:
    """A network by the name of a model, the folder of a run, a file of weights, or `file.py:Class`.

    Args:
        source: One of these.
        input_shape: Of one frame. None takes that of the weights, or a few tokens of a model.
        steps: $T$. None takes the network's own.
        time_axis: As in `Subject`; for a class of one's own, of which we know nothing. Default 1.
        parts: Neuron and attention of one's own, for models and weights.

    Raises:
        ConfigError: for an unknown name, or an option that has no meaning for this source.
        DataError: when there is no such file.
        WeightsError: when a file does not describe its model.
    """
    from spikformer.probe.subject import Subject

    if ":" in source:
        if parts:
            raise ConfigError(f"{' and '.join(parts)} belong to models of ours, not to {source}")
        if not input_shape:
            raise ConfigError(f"{source} needs the shape of a frame, say --input-shape 3 32 32")
        axis = {None: 1, "none": None}.get(time_axis, time_axis)
        return Named(Subject(_own(source), input_shape, steps or 4, axis), trained=False)
    if time_axis is not None:
        raise ConfigError("--time-axis is for networks of your own: those here take [B, T, ...]")
    model, default_shape, trained = _ours(source, parts)
    return Named(Subject(model, input_shape or default_shape, steps or model.steps), trained)


def _own(source: str) -> Any:
    from torch import nn

    from spikformer.nn import resolve

    build = resolve("network", source, {})
    try:
        network = build()
    except Exception as error:
        raise ConfigError(f"{source} failed with {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
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
