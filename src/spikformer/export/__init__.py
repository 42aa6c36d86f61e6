"""Leaving PyTorch: networks as plans of spiking operations, with their norms folded."""

from spikformer.export.plan import (
    Add,
    Attention,
    Head,
    Layer,
    Neuron,
    Operation,
    Plan,
    Pool,
    Value,
)

__all__ = ["Add", "Attention", "Head", "Layer", "Neuron", "Operation", "Plan", "Pool", "Value"]
