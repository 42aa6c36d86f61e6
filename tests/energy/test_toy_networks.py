"""Networks small enough to count on paper."""

import pytest
import torch
from torch import nn

from spikformer import kernels
from spikformer.energy import CONVENTIONS, Costs, profile

MAC, AC = 4.6, 0.9


class Once(nn.Module):
    """A network of one layer that takes what it is given."""

    steps = 1

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


class TwoMaps(nn.Module):
    """Something before, so that the layer in question is not the first."""

    steps = 1

    def __init__(self, layer):
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1, bias=False)
        self.layer = layer
        self.neuron = nn.Identity()

    def forward(self, x):
        self.first(torch.ones(len(x), 1, 1, 1))
        out = self.layer(x)
        return kernels.lif(out[None])[0]


def rows(network, x, **options):
    return {(r["layer"], r["role"]): r for r in profile(network, [x], **options).rows()}


def test_a_padded_convolution():
    # 3 x 3 pixels, one channel to two, 3 x 3 window, padding 1: a spike in the middle reaches all
    # 9 places of both outputs, one at a side 6, one in a corner 4.
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = x[0, 0, 0, 1] = x[0, 0, 2, 2] = 1
    found = rows(TwoMaps(nn.Conv2d(1, 2, 3, padding=1)), x)["layer", "map"]
    assert found["macs"] == 9 * 9 * 2
    assert found["additions"] == (9 + 6 + 4) * 2
    assert found["synaptic_operations"] == found["additions"]
    assert found["parameters"] == 2 * 9 + 2
    assert (found["input"], found["input_rate"]) == ("binary", 3 / 9)
    assert found["spikformer_pj"] == pytest.approx(AC * 3 / 9 * 162)
    assert found["spikformer-strict_pj"] == pytest.approx(AC * 38)
    assert found["spikingformer_pj"] == pytest.approx(AC * (3 / 9 * 162 + 18))
    assert found["spikingresformer_pj"] == pytest.approx(AC * 38)
    assert found["neurobench_pj"] == pytest.approx(AC * 38)


@pytest.mark.parametrize(
    ("options", "reach"),
    [
        pytest.param({"stride": 2, "padding": 1}, [[1, 2, 1, 1], [2, 4, 2, 2]], id="stride"),
        pytest.param({"dilation": 3, "padding": 3}, [[4, 2, 2, 4], [2, 1, 1, 2]], id="dilation"),
    ],
)
def test_places_are_reached_as_the_gradient_says(options, reach):
    layer = nn.Conv2d(2, 3, 3, bias=False, **options)
    x = torch.zeros(1, 2, 4, 4)
    for y in range(2):
        for k in range(4):
            x.zero_()
            x[0, 1, y, k] = 1
            found = rows(TwoMaps(layer), x)["layer", "map"]["additions"]
            assert found == 3 * reach[y][k]


def test_groups_and_transposition():
    x = torch.ones(1, 4, 3, 3)
    grouped = rows(TwoMaps(nn.Conv2d(4, 8, 1, groups=2, bias=False)), x)["layer", "map"]
    assert grouped["macs"] == grouped["additions"] == 9 * 4 * 4
    back = rows(TwoMaps(nn.ConvTranspose2d(4, 5, 2, stride=2, bias=False)), x)["layer", "map"]
    assert back["macs"] == back["additions"] == 9 * 4 * 4 * 5


class Attention(nn.Module):
    """Queries, keys and values of three tokens, two wide, as they stand in the input."""

    steps = 1

    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        q, k, v = x.unbind(1)
        if self.order == "kernel":
            return kernels.spike_attention(q, k, v)
        if self.order == "tokens first":
            return (q @ k.mT * 0.125) @ v
        if self.order == "keys first":
            return q @ (k.mT @ v * 0.125)
        return ((v.mT @ k) @ q.mT).mT  # tokens last, keys first


Q = [[1, 0], [1, 1], [0, 0]]
K = [[1, 1], [0, 1], [0, 1]]
V = [[1, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize("order", ["kernel", "keys first", "tokens last", "tokens first"])
def test_an_attention(order):
    x = torch.tensor([Q, K, V]).float()[None]
    found = rows(Attention(order), x)["", "attention"]
    # two products of 3 x 2 numbers, each with 2, or with 3
    assert (found["macs_keys_first"], found["macs_tokens_first"]) == (24, 36)
    assert found["macs"] == (36 if order == "tokens first" else 24)
    # K^T V: tokens meet 2 * 1 + 1 * 2 + 1 * 1; it is [[1, 0], [2, 2]]: one 1 and two non-zeros a row.
    # Q's columns hold 2 and 1 spikes: 2 * 1 + 1 * 2.
    # Q K^T: columns 2 * 1 + 1 * 3; it is [[1, 0, 0], [2, 1, 1], [0, 0, 0]], whose columns have
    # 2, 1 and 1 non-zeros, and V's rows 1, 2 and 1 spikes: 2 * 1 + 1 * 2 + 1 * 1.
    assert found["additions"] == (5 + 5 if order == "tokens first" else 5 + 4)
    rates = 3 / 6, 4 / 6, 4 / 6
    charged = AC * 12 * (min(rates[1:]) + rates[0])
    assert found["spikformer_pj"] == pytest.approx(charged)


def test_an_integer_residual():
    # four inputs with counts 0, 1, 2 and 5 to three outputs
    x = torch.tensor([[0.0, 1, 2, 5]])
    found = rows(TwoMaps(nn.Linear(4, 3, bias=False)), x)["layer", "map"]
    assert (found["macs"], found["additions"], found["synaptic_operations"]) == (12, 9, 24)
    assert (found["input"], found["input_largest"]) == ("integer", 5)
    assert found["spikformer_pj"] == pytest.approx(AC * 8 / 4 * 12)  # weighted
    assert found["spikformer-strict_pj"] == pytest.approx(MAC * 12)
    assert found["spikingformer_pj"] == pytest.approx(AC * 8 / 4 * 12)
    assert found["spikingformer-binary_pj"] == pytest.approx(MAC * 12)
    assert found["sdt_pj"] == pytest.approx(AC * 3 / 4 * 12)
    assert found["neurobench_pj"] == pytest.approx(MAC * 9)


def test_costs_are_the_users():
    x = torch.ones(1, 4)
    costs = Costs(mac_pj=100.0, ac_pj=1.0)
    found = rows(Once(nn.Linear(4, 3, bias=False)), x, costs=costs)["layer", "map"]
    assert found["spikformer_pj"] == 100 * 12


def test_a_convention_of_ones_own():
    rules = {**CONVENTIONS, "by-output": lambda place, costs: 2.0 * place.operation.outputs}
    found = rows(Once(nn.Linear(4, 3)), torch.ones(1, 4), conventions=rules)["layer", "map"]
    assert found["by-output_pj"] == 6.0


def test_a_functional_mask_counts_and_a_neurons_own_products_do_not():
    class Neuron(nn.Module):
        def forward(self, current):
            spikes = (current > 1).float()
            return spikes * (1 - spikes * 0)  # as a reset would be written

    class Masked(nn.Module):
        steps = 1

        def __init__(self):
            super().__init__()
            self.neuron = Neuron()

        def forward(self, x):
            spikes = self.neuron(x)
            return spikes * spikes.flip(1)

    found = rows(Masked(), torch.tensor([[0.5, 2.0, 3.0, 0.1]]))
    assert set(found) == {("", "mask"), ("neuron", "neuron")}
    assert found["", "mask"]["macs"] == 4
    assert found["", "mask"]["additions"] == 2
    assert found["neuron", "neuron"]["neuron_updates"] == 4


def test_a_network_of_spikingjelly_is_counted_without_code_for_it():
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.model.spikformer import Spikformer as Theirs

    theirs = Theirs(
        T=2, img_size_h=16, img_size_w=16, patch_size=4, num_classes=5, embed_dims=32,
        num_heads=2, depths=1,
    )  # fmt: skip
    found = profile(theirs, [torch.rand(2, 3, 3, 16, 16)], steps=2)
    roles = [row["role"] for row in found.rows()]
    # four stages, position, qkv, projection, two of the MLP, head; a neuron after all but the head,
    # and one after the product
    assert (roles.count("map"), roles.count("attention"), roles.count("neuron")) == (10, 1, 10)
    assert found.rows()[-1]["layer"] == "head"
