import pytest
import torch

from spikformer.errors import ConfigError
from spikformer.models import Spikformer
from spikformer.probe import firing_rates, spikes_per_step


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = Spikformer(1, 16, 2, in_chans=1, num_classes=3, pools=(False, True))
    for name, parameter in made.named_parameters():
        if name.endswith("norm.bias"):
            torch.nn.init.constant_(parameter, 0.8)  # lively
    return made.eval()


def test_rates_are_means_over_everything_that_ran(model):
    images = [torch.rand(2, 1, 8, 8), torch.rand(5, 1, 8, 8)]
    seen = []
    model.position.neuron.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with firing_rates(model) as rates:
        for batch in images:
            model(batch)
    together = torch.cat(seen, dim=1)
    assert 0 < together.mean() < 1
    assert rates.by_layer()["position"] == pytest.approx(together.mean().item(), abs=1e-7)
    assert rates.by_step()["position"] == pytest.approx(
        together.mean((1, 2, 3, 4)).tolist(), abs=1e-7
    )


def test_the_mean_weighs_layers_by_their_neurons(model):
    spikes, neurons = 0.0, 0
    outputs = []
    for name, module in model.named_modules():
        if name.endswith("neuron"):
            module.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with firing_rates(model) as rates:
        model(torch.rand(2, 1, 8, 8))
    for out in outputs:
        spikes, neurons = spikes + out.sum().item(), neurons + out.numel()
    assert rates.mean() == pytest.approx(spikes / neurons)


def test_every_neuron_is_watched_and_let_go(model):
    with firing_rates(model) as rates:
        model(torch.rand(1, 1, 8, 8))
    before = rates.by_layer()
    # 2 stages, position, and qkv, product, projection, fc1, fc2 of the block
    assert len(before) == 2 + 1 + 5
    model(torch.rand(1, 1, 8, 8))
    assert rates.by_layer() == before


def test_spikes_of_a_sample_do_not_depend_on_its_neighbours(model):
    images = torch.rand(3, 1, 8, 8)
    together = spikes_per_step(model, images)
    assert together.shape == (4, 3)
    assert together.sum() > 0
    other = images.clone()
    other[0] = 0
    assert torch.equal(spikes_per_step(model, other)[:, 1:], together[:, 1:])


def test_the_neuron_of_the_values_is_watched_too():
    other = Spikformer(1, 16, 2, in_chans=1, num_classes=3, pools=(True,), attention="vsa")
    with firing_rates(other) as rates:
        other(torch.rand(1, 1, 8, 8))
    assert "blocks.0.attention.value_neuron" in rates.by_layer()


def test_nothing_watched_has_no_rate(model):
    with firing_rates(model) as rates:
        pass
    with pytest.raises(ConfigError, match="no neuron ran"):
        rates.mean()


def test_neurons_of_other_libraries_are_watched_too():
    class MyLIF(torch.nn.Module):
        def forward(self, current):
            return (current > 0.5).float()

    network = torch.nn.Sequential(torch.nn.Identity(), MyLIF())
    with firing_rates(network) as rates:
        network(torch.tensor([[[0.1, 0.6]], [[0.7, 0.8]]]))
    assert rates.by_step() == {"1": [0.5, 1.0]}
