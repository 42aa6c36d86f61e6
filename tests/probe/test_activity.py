import pytest
import torch
from helpers.networks import tiny
from torch import nn

from spikformer.errors import ConfigError
from spikformer.nn.neurons import IF, LIF, PLIF
from spikformer.probe import activity, firing_rates, potential_histograms, potentials, recorded

IMAGES = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = LIF(tau=1.0)

    def forward(self, current):
        return self.neuron(current)


def test_silent_and_saturated_neurons_are_told():
    model = nn.Sequential(Layer())
    always, never, once = torch.full((2, 4), 3.0), torch.zeros(2, 4), torch.zeros(2, 4)
    once[1, 2] = 3.0
    with activity(model) as seen:
        model(torch.stack([always, never, once, always], -1))
        model(torch.stack([always, never, never, never], -1))
    assert seen.rates("0").tolist() == [[1.0, 0.0, 0.0, 0.5], [1.0, 0.0, 1 / 8, 0.5]]
    assert seen.silent() == {"0": 0.25}
    assert seen.saturated() == {"0": 0.25}


def test_rates_by_head_are_the_mean_of_their_channels():
    model = tiny()
    with activity(model) as seen, firing_rates(model) as rates:
        model(IMAGES)
    for name, heads in seen.by_head(2).items():
        assert heads.shape == (model.steps, 3, 2)
        assert heads.mean((1, 2)).tolist() == pytest.approx(rates.by_step()[name])


def test_what_was_recorded_is_what_fired():
    model = tiny()
    with firing_rates(model) as rates:
        found = recorded(model, IMAGES)
    for layer, spikes in found.items():
        assert spikes.mean().item() == pytest.approx(rates.by_layer()[layer])


@pytest.mark.parametrize("neuron", [LIF(), LIF(tau=3.0, v_reset=None), IF(), PLIF()])
def test_a_neuron_fires_where_its_potential_reaches_the_threshold(neuron):
    current = 2 * torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    u = potentials(neuron, current)
    fired = neuron(current).bool()
    assert 0 < fired.double().mean() < 1
    assert torch.equal(u >= neuron.options["threshold"], fired)


def test_histograms_count_every_potential():
    model = tiny()
    found = potential_histograms(model, IMAGES, bins=10)
    sizes = {layer: spikes.numel() for layer, spikes in recorded(model, IMAGES).items()}
    assert {layer: sum(counts) for layer, counts in found.items()} == sizes
    with pytest.raises(ConfigError, match="no neurons whose potentials are known"):
        potential_histograms(nn.Identity(), IMAGES)
