"""From a name, `file.py:Class`, `module:Class` or a callable to what builds a part of the network."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from spikformer._modules import load_file
from spikformer.errors import ConfigError, unknown_name

Factory = TypeVar("Factory", bound=Callable[..., Any])


def resolve(kind: str, spec: str | Factory, registry: Mapping[str, Factory]) -> Factory:
    """What `spec` stands for.

    Args:
        kind: What the error calls it, "neuron" say.
        spec: A name in the registry, an importable `module:Class`, `path/to/file.py:Class`, or
            something to call, returned as it is.

    Raises:
        ConfigError: when there is no such name, file, module or class.
    """
    if not isinstance(spec, str):
        return spec
    if ":" not in spec:
        if spec not in registry:
            raise unknown_name(kind, spec, registry)
        return registry[spec]
    source, _, name = spec.rpartition(":")
    module = _load(kind, source)
    if name not in vars(module):
        raise ConfigError(f"{kind} {spec!r}: {source} defines no {name!r}")
    return vars(module)[name]


def _load(kind: str, source: str) -> Any:
    if source.endswith(".py"):
        return load_file(Path(source), kind)
    try:
        return importlib.import_module(source)
    except (ModuleNotFoundError, ValueError) as error:
        raise ConfigError(f"{kind}: cannot import {source!r}: {error}") from error
