"""What single neurons do: which never fire, which always, when, and how near they come."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.neurons import Neuron
from spikformer.probe.neurons import potentials
from spikformer.probe.rates import watching


class Activity:
    """Spikes of every single neuron, counted over all that ran while it watched."""

    def __init__(self) -> None:
        self._spikes: dict[str, Tensor] = {}
        self._samples: dict[str, int] = {}

    def add(self, layer: str, spikes: Float[Tensor, "T B *neurons"]) -> None:
        counts = spikes.detach().sum(1, dtype=torch.float64)
        self._spikes[layer] = self._spikes.get(layer, 0) + counts
        self._samples[layer] = self._samples.get(layer, 0) + spikes.shape[1]

    def rates(self, layer: str) -> Float[Tensor, " T *neurons"]:
        """Spikes of each neuron of a layer, per sample, at each step."""
        return self._spikes[layer] / self._samples[layer]

    def silent(self) -> dict[str, float]:
        """Layer to the share of its neurons that never fired."""
        return {n: (s.sum(0) == 0).double().mean().item() for n, s in self._spikes.items()}

    def saturated(self) -> dict[str, float]:
        """Layer to the share of its neurons that fired at every step of every sample."""
        return {
            n: (s == self._samples[n]).all(0).double().mean().item()
            for n, s in self._spikes.items()
        }

    def by_head(self, heads: int) -> dict[str, Float[Tensor, " T three h"]]:
        """Layer of queries, keys and values to their rates: by step, which of the three, and head."""
        return {
            name: self.rates(name).unflatten(1, (3, heads, -1)).mean((3, 4, 5))
            for name in self._spikes
            if name.endswith("qkv")
        }


@contextmanager
def activity(model: nn.Module) -> Iterator[Activity]:
    """Watch every single neuron of a model while the block runs; read it after."""
    seen = Activity()
    with watching(model, lambda layer, _neuron, _current, spikes: seen.add(layer, spikes)):
        yield seen


def recorded(
    model: nn.Module, images: Float[Tensor, "B *T C H W"]
) -> dict[str, Float[Tensor, "T B *neurons"]]:
    """Layer to its spikes, for a raster."""
    found: dict[str, Tensor] = {}

    def see(layer: str, _neuron: nn.Module, _current: Tensor, spikes: Tensor) -> None:
        found[layer] = spikes

    with torch.no_grad(), watching(model, see):
        model(images)
    return found


def potential_histograms(
    model: nn.Module,
    images: Float[Tensor, "B *T C H W"],
    bins: int = 64,
    span: tuple[float, float] = (-2.0, 3.0),
) -> dict[str, list[int]]:
    """Layer to how many potentials lie in each of `bins` between the thresholds' multiples `span`.

    What lies outside is counted at the ends.

    Raises:
        ConfigError: when the model has no neurons of ours.
    """
    found: dict[str, list[int]] = {}

    def see(layer: str, neuron: nn.Module, current: Tensor, _spikes: Tensor) -> None:
        if isinstance(neuron, Neuron):
            u = potentials(neuron, current) / neuron.options["threshold"]
            found[layer] = torch.histc(u.float().clamp(*span), bins, *span).long().tolist()

    with torch.no_grad(), watching(model, see):
        model(images)
    if not found:
        raise ConfigError("the model has no neurons whose potentials are known")
    return found
