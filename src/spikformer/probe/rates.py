"""How often neurons fire."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NEURON = "neuron"
"""What every layer of ours calls its neuron: the name is how probes find them, whatever the class."""


class FiringRates:
    """Spikes per neuron per step, by layer and step, over all that ran while it watched."""

    def __init__(self) -> None:
        self._spikes: dict[str, Tensor] = {}
        self._neurons: dict[str, int] = {}

    def add(self, layer: str, spikes: Tensor) -> None:
        """Count spikes [T, ...] of a layer, on the device they are on."""
        counts = spikes.detach().flatten(1).sum(1, dtype=torch.float64)
        self._spikes[layer] = self._spikes.get(layer, 0) + counts
        self._neurons[layer] = self._neurons.get(layer, 0) + spikes[0].numel()

    def by_step(self) -> dict[str, list[float]]:
        """Layer to the rate at each step."""
        return {
            layer: (spikes / self._neurons[layer]).tolist()
            for layer, spikes in self._spikes.items()
        }

    def by_layer(self) -> dict[str, float]:
        """Layer to its rate, in the order the network runs them."""
        return {layer: sum(rates) / len(rates) for layer, rates in self.by_step().items()}

    def mean(self) -> float:
        """The rate over all neurons, steps and samples."""
        neurons = sum(len(s) * self._neurons[layer] for layer, s in self._spikes.items())
        return sum(float(s.sum()) for s in self._spikes.values()) / neurons


@contextmanager
def firing_rates(model: nn.Module) -> Iterator[FiringRates]:
    """Watch every neuron of a model while the block runs; read the rates after it."""
    rates = FiringRates()
    hooks = [
        neuron.register_forward_hook(_counter(rates, layer)) for layer, neuron in _neurons(model)
    ]
    try:
        yield rates
    finally:
        for hook in hooks:
            hook.remove()


def _counter(rates: FiringRates, layer: str) -> Any:
    def count(_module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
        rates.add(layer, spikes)

    return count


def spikes_per_step(model: nn.Module, images: Tensor) -> Tensor:
    """Spikes of the whole network for each step and sample, [T, B]."""
    totals: list[Tensor] = []

    def add(_module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
        totals.append(spikes.flatten(2).sum(2, dtype=torch.float64))

    hooks = [neuron.register_forward_hook(add) for _, neuron in _neurons(model)]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(totals).sum(0)


def _neurons(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(layer, its neuron)."""
    for name, module in model.named_modules():
        layer, _, leaf = name.rpartition(".")
        if leaf == NEURON and not isinstance(module, nn.Identity):
            yield layer, module
