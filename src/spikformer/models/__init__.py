"""Spiking transformers by name. Importing this registers them with timm.

To add an architecture, write its file beside `spikformer.py`, import it here and name it in
`ARCHITECTURES`.
"""

from spikformer.models._card import Card, read_card
from spikformer.models._registry import ARCHITECTURES, create_model, list_models
from spikformer.models._weights import WeightsReport, load_model, load_weights, save_weights
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
