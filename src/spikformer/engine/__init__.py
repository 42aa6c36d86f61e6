"""The event-driven engine: spiking networks on a plain CPU, without PyTorch.

    engine = spikformer.engine.compile(model, images, precision="int8")
    logits = engine(images)
    engine.save("net.safetensors")  # load(...) needs no torch

Loading an engine imports NumPy and safetensors alone; compiling one reads the exported graph.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Engine": "_engine",
    "State": "_stream",
    "Stream": "_stream",
    "compile": "_compile",
    "instruction_sets": "_library",
    "is_engine": "_file",
    "load": "_file",
    "missing": "_library",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
