"""timm's registry, narrowed to the models of this library."""

from typing import Any

import timm
from torch import nn

from spikformer.errors import ConfigError, unknown_name

ARCHITECTURES = ("spikformer",)
"""The files beside this one that register models."""


def list_models(pattern: str = "*") -> list[str]:
    """Names of our models that match `pattern`, with timm's wildcards: `*patch4`."""
    names = (timm.list_models(pattern, module=file) for file in ARCHITECTURES)
    return [name for found in names for name in found]


def create_model(name: str, **arguments: Any) -> nn.Module:
    """A model by name, with the arguments of its class changed at will.

    Args:
        name: One of `list_models()`.
        arguments: Those of `Spikformer`, and timm's own (`features_only`, `out_indices`).

    Raises:
        ConfigError: for an unknown name or argument, or a value that breaks a rule.
    """
    if name not in list_models():
        raise unknown_name("model", name, list_models())
    try:
        # Not `timm.create_model`, which leaves out arguments that are None.
        return timm.models.model_entrypoint(name)(**arguments)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from error
