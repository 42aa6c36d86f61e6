"""Spiking transformers by name. Importing this registers them with timm.

To add an architecture, write its file beside `spikformer.py` and name it in `ARCHITECTURES`.
"""

from spikformer.models import spikformer
from spikformer.models._registry import create_model, list_models
from spikformer.models._weights import (
    Card,
    WeightsReport,
    load_model,
    load_weights,
    read_card,
    save_weights,
)
from spikformer.models.spikformer import Spikformer

__all__ = [
    "ARCHITECTURES",
    "Card",
    "Spikformer",
    "WeightsReport",
    "create_model",
    "list_models",
    "load_model",
    "load_weights",
    "read_card",
    "save_weights",
]

ARCHITECTURES = (spikformer,)
"""The modules that register models."""
