"""Convolution, norm, neuron; and what a block makes of them."""

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import enliven

from spikformer import kernels
from spikformer.errors import ConfigError
from spikformer.nn import LIF, EncoderBlock, SpikingConv, share_statistics
from spikformer.nn.block import DropPath

T, B = 4, 3


def frames(steps=T, channels=3):
    return torch.rand(steps, B, channels, 5, 6, dtype=torch.float64)


def lively_conv(kernel_size=3, **options):
    options = {"neuron": LIF} | options
    layer = SpikingConv(3, 8, kernel_size, **options).double()
    return enliven(layer, frames())


@pytest.mark.parametrize(("kernel_size", "bias"), [(1, True), (3, False), (5, True)])
def test_spikes_are_neuron_of_norm_of_convolution(kernel_size, bias):
    layer = lively_conv(kernel_size, bias=bias)
    x = frames()
    norm = layer.norm
    steps = []
    for step in x:
        u = F.conv2d(step, layer.conv.weight, layer.conv.bias, padding=kernel_size // 2)
        u = (u - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps)[
            :, None, None
        ].sqrt()
        steps.append(u * norm.weight[:, None, None] + norm.bias[:, None, None])
    spikes, _ = kernels.lif(torch.stack(steps))
    assert 0.05 < spikes.mean() < 0.6
    assert torch.equal(layer(x), spikes)
    assert (layer.conv.bias is not None) == bias


def test_a_kernel_of_one_is_a_linear_map_of_each_pixel():
    layer = lively_conv(1, neuron=None)
    x = frames()
    pixel = layer(x[..., 2:3, 4:5])
    torch.testing.assert_close(layer(x)[..., 2:3, 4:5], pixel, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_a_repeated_step_equals_its_copies(training):
    x = frames(steps=1)
    layers = [lively_conv().train(training) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    once, copied = layers[0](x, T), layers[1](x.repeat(T, 1, 1, 1, 1))
    assert once.shape == copied.shape
    assert 0.05 < once.mean() < 0.6
    assert torch.equal(once, copied)
    for name, value in layers[0].state_dict().items():
        torch.testing.assert_close(value, layers[1].state_dict()[name], rtol=1e-12, atol=1e-12)


def test_the_threshold_is_the_neurons():
    assert lively_conv(threshold=0.25).neuron.options["threshold"] == 0.25


def test_without_a_neuron_it_returns_currents():
    currents = lively_conv(neuron=None)(frames())
    assert len(currents.unique()) > 100
    spikes, _ = kernels.lif(currents)
    assert 0 < spikes.mean() < 1


class Adds(torch.nn.Module):
    """In place of attention: spikes that are known."""

    def forward(self, counts):
        return torch.ones_like(counts)


def test_a_block_adds_attention_then_mlp_to_its_counts():
    block = EncoderBlock(Adds(), 8, neuron=LIF).double()
    counts = torch.randint(3, (T, B, 8, 5, 6)).double()
    enliven(block, counts)
    mlp = block.mlp(counts + 1)
    assert set(mlp.unique().tolist()) == {0, 1}
    assert torch.equal(block(counts), counts + 1 + mlp)


@pytest.mark.parametrize(("ratio", "hidden"), [(4.0, 32), (2.5, 20)])
def test_the_mlp_is_as_wide_as_its_ratio_says(ratio, hidden):
    block = EncoderBlock(Adds(), 8, mlp_ratio=ratio, neuron=LIF)
    assert block.mlp.fc1.conv.weight.shape == (hidden, 8, 1, 1)
    assert block.mlp.fc2.conv.weight.shape == (8, hidden, 1, 1)


def test_drop_path_skips_a_sample_in_all_its_steps_at_once():
    samples = 200
    out = DropPath(0.25).train()(torch.ones(T, samples, 2, 3, 3))
    # Each sample is 0 everywhere or 1/(1 - 1/4) everywhere.
    per_sample = out.transpose(0, 1).flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert sorted(out.unique().tolist()) == [0, pytest.approx(4 / 3)]


def test_drop_path_keeps_the_mean():
    # Kept samples weigh 4/3; the deviation of the mean is sqrt((1/4) / (3/4) / n) = 0.0029.
    out = DropPath(0.25).train()(torch.ones(1, 40_000))
    assert out.mean().item() == pytest.approx(1, abs=4 * 0.0029)


def test_drop_path_is_off_in_eval_mode_and_at_rate_zero():
    x = torch.rand(T, 100, 2)
    assert torch.equal(DropPath(0.9).eval()(x), x)
    assert torch.equal(DropPath(0.0).train()(x), x)


def test_a_block_drops_both_branches():
    block = EncoderBlock(Adds(), 8, neuron=LIF, drop_path=0.5).train()
    counts = torch.randint(3, (1, 64, 8, 1, 1)).float()
    added = (block(counts) - counts).amax(dim=(0, 2, 3, 4))
    # Nothing, attention's 2, MLP's 2, or both.
    assert {0.0, 2.0} < set(added.tolist()) <= {0.0, 2.0, 4.0}


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_drop_path_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ConfigError, match=rf"drop_path must be in \[0, 1\), got {rate}"):
        DropPath(rate)


def test_pytorchs_conversion_of_norms_is_answered_in_one_sentence():
    layer = torch.nn.SyncBatchNorm.convert_sync_batchnorm(SpikingConv(1, 2, neuron=LIF))
    with pytest.raises(ConfigError, match="share statistics over ranks with"):
        layer(torch.rand(1, 2, 1, 4, 4), 3)


def test_statistics_are_not_shared_without_ranks():
    with pytest.raises(ConfigError, match=r"torch\.distributed is not initialised"):
        share_statistics(SpikingConv(1, 2, neuron=LIF))
