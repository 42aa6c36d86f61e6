"""Spiking transformers: train them, measure them, run them."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Card": "models",
    "Comparison": "training.comparison",
    "Evaluation": "training.evaluation",
    "Prediction": "training.prediction",
    "Recipe": "recipe",
    "Run": "training.run",
    "Spikformer": "models",
    "WeightsReport": "models",
    "compare": "training.comparison",
    "create_model": "models",
    "evaluate": "training.evaluation",
    "find_recipe": "recipes",
    "list_models": "models",
    "load_model": "models",
    "load_weights": "models",
    "predict": "training.prediction",
    "read_card": "models",
    "save_weights": "models",
    "train": "training.fit",
    "write_report": "report.page",
}
"""Public names and where they live. They load on first use: importing this loads no torch."""

_PACKAGES = ("engine",)
"""Those that are public as a whole: `spikformer.engine.compile`."""

__all__ = sorted([*_HOMES, *_PACKAGES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
