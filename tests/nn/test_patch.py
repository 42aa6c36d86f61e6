import pytest
import torch
import torch.nn.functional as F
from helpers.networks import enliven

from spikformer.errors import ConfigError
from spikformer.nn import LIF, SpikingPatchSplitting


def one_stage(pool):
    """A stage whose convolution and norm pass their input on as it is."""
    stem = SpikingPatchSplitting(1, 1, pools=(pool,), neuron=LIF).eval()
    stage = stem.stages[0]
    with torch.no_grad():
        stage.conv.weight.zero_()[0, 0, 1, 1] = 1
    stage.norm.eps = 0.0
    return stem


def test_spikes_are_pooled_not_currents():
    # Two pixels, two steps. The left one: u = 1/2, 1/4. The right one: u = 0, 1.6/2 = 0.8.
    # Neither fires. Their largest currents, 1 and 1.6, would: u = 1/2, 1/2 + 1.1/2 = 1.05.
    currents = torch.tensor([[1.0, 0.0], [0.0, 1.6]]).view(2, 1, 1, 1, 2)
    assert one_stage(pool=True)(currents).flatten().tolist() == [0, 0]
    pooled = F.max_pool2d(currents.flatten(0, 1), 3, 2, 1).view(2, 1, 1, 1, 1)
    assert one_stage(pool=False)(pooled).flatten().tolist() == [0, 1]


def test_a_pool_takes_the_largest_of_three_by_three_at_every_second_pixel():
    # One firing pixel at row 1, column 3: windows around columns 2 and 4, rows 0 and 2 see it.
    image = torch.zeros(1, 1, 1, 6, 6)
    image[..., 1, 3] = 2.0
    found = one_stage(pool=True)(image)[0, 0, 0]
    assert found.tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_stages_run_one_after_the_other():
    stem = SpikingPatchSplitting(3, 16, pools=(False, True, True), neuron=LIF).double()
    x = torch.rand(4, 2, 3, 8, 12, dtype=torch.float64)
    enliven(stem, x)
    walked = list(stem.walk(x))
    expected = x
    for stage, pool, found in zip(stem.stages, (False, True, True), walked, strict=True):
        expected = stage(expected)
        if pool:
            expected = torch.stack([F.max_pool2d(step, 3, 2, 1) for step in expected])
        assert torch.equal(found, expected)
        assert 0 < found.mean() < 1
    assert torch.equal(stem(x), walked[-1])


@pytest.mark.parametrize(
    ("pools", "widths", "strides"),
    [
        ((True, True, True, True), (4, 8, 16, 32), (2, 4, 8, 16)),
        ((False, False, True, True), (4, 8, 16, 32), (1, 1, 2, 4)),
        ((True, False), (16, 32), (2, 2)),
        ((False,), (32,), (1,)),
    ],
)
def test_widths_double_and_pools_halve(pools, widths, strides):
    stem = SpikingPatchSplitting(3, 32, pools=pools, neuron=LIF)
    assert (stem.widths, stem.strides) == (widths, strides)
    for spikes, width, stride in zip(
        stem.walk(torch.rand(1, 2, 3, 32, 16), 5), widths, strides, strict=True
    ):
        assert spikes.shape == (5, 2, width, 32 // stride, 16 // stride)


def test_no_stages_are_refused():
    with pytest.raises(ConfigError, match="pools must name at least one stage, got none"):
        SpikingPatchSplitting(3, 32, pools=(), neuron=LIF)


def test_a_width_that_stages_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"multiple of 2\^\(stages - 1\) = 8, got dim=20"):
        SpikingPatchSplitting(3, 20, pools=(True,) * 4, neuron=LIF)
