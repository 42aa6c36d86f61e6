"""How often neurons fire."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.recognition import NEURON, named_neurons


class FiringRates:
    """Spikes per neuron per step, by layer and step, over all that ran while it watched."""

    def __init__(self) -> None:
        self._spikes: dict[str, Tensor] = {}
        self._neurons: dict[str, int] = {}

    def add(self, layer: str, spikes: Tensor) -> None:
        """Count spikes [T, ...] of a layer, on the device they are on."""
        counts = spikes.detach().flatten(1).sum(1, dtype=torch.int64)
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
        """The rate over all neurons, steps and samples.

        Raises:
            ConfigError: when nothing ran.
        """
        if not self._spikes:
            raise ConfigError("no neuron ran while its rate was watched")
        neurons = sum(len(s) * self._neurons[layer] for layer, s in self._spikes.items())
        return sum(float(s.sum()) for s in self._spikes.values()) / neurons


@contextmanager
def firing_rates(model: nn.Module) -> Iterator[FiringRates]:
    """Watch every neuron of a model while the block runs; read the rates after it."""
    rates = FiringRates()
    with watching(model, lambda layer, _neuron, _current, spikes: rates.add(layer, spikes)):
        yield rates


class RateMeter(nn.Module):
    """Rates of all neurons while a network trains, kept on its device and read seldom.

    Every call of a neuron adds its rate. Nothing is copied to the host before `read`, and the sums
    are buffers: they move, compile and are stored with the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        neurons = dict(_neurons(model))
        self.layers = tuple(neurons)
        self.sums: Tensor
        self.calls: Tensor
        self.sizes: Tensor
        self.register_buffer("sums", torch.zeros(len(neurons)))
        self.register_buffer("calls", torch.zeros(len(neurons)))
        self.register_buffer("sizes", torch.zeros(len(neurons)))
        for index, neuron in enumerate(neurons.values()):
            neuron.register_forward_hook(partial(self._add, index))

    def _add(self, index: int, neuron: nn.Module, _inputs: Any, spikes: Tensor) -> None:
        if neuron.training:
            self.sums[index] += spikes.detach().mean(dtype=torch.float32)
            self.calls[index] += 1
            self.sizes[index] = float(spikes.numel())

    def mean(self) -> float:
        """The rate over all neurons and steps since the last reset."""
        rates = self.sums / self.calls
        ran = self.calls > 0
        return float((rates * self.sizes)[ran].sum() / self.sizes[ran].sum())

    def read(self) -> dict[str, float]:
        """Layer to its mean rate since the last reset, for those that ran."""
        rates = (self.sums / self.calls).tolist()
        return {layer: rate for layer, rate in zip(self.layers, rates, strict=True) if rate == rate}

    def reset(self) -> None:
        self.sums.zero_()
        self.calls.zero_()


def spikes_per_step(model: nn.Module, images: Float[Tensor, "B *T C H W"]) -> Int64[Tensor, "T B"]:
    """Spikes of the whole network for each step and sample."""
    totals: list[Tensor] = []

    def see(_layer: str, _neuron: nn.Module, _current: Tensor, spikes: Tensor) -> None:
        totals.append(spikes.detach().flatten(2).sum(2, dtype=torch.int64))

    with watching(model, see):
        model(images)
    return torch.stack(totals).sum(0)


@contextmanager
def watching(
    model: nn.Module, see: Callable[[str, nn.Module, Tensor, Tensor], None]
) -> Iterator[None]:
    """Call `see(layer, neuron, current, spikes)` after every neuron, while the block runs."""

    def hook(layer: str) -> Any:
        return lambda neuron, inputs, spikes: see(layer, neuron, inputs[0], spikes)

    hooks = [neuron.register_forward_hook(hook(layer)) for layer, neuron in _neurons(model)]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def _neurons(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    named = named_neurons(model)
    for name, module in model.named_modules():
        if name in named:
            yield name.removesuffix(f".{NEURON}"), module
