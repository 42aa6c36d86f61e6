"""Networks written in other ways than ours are counted alike."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikformer import create_model
from spikformer.energy import profile
from spikformer.errors import ConfigError

T, B = 4, 2
CONVOLUTION = 8 * 8 * 27 * 4
"""Multiply-accumulates of 3 x 3 windows of 3 channels of 8 x 8 pixels, to 4 channels."""
IMAGES = torch.rand(B, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Spike(nn.Module):
    def forward(self, current):
        return (current > 0.3).to(current.dtype)


class Net(nn.Module):
    """One convolution, neurons, and a head; how time is run is up to `order`."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.spike = Spike()
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, x):
        return getattr(self, self.order)(x)

    def shared(self, x):
        spikes = self.spike(self.conv(x).expand(T, *[-1] * 4))
        return self.head(spikes.mean((0, -1, -2)))

    def repeated(self, x):
        spikes = self.spike(self.conv(x.repeat(T, 1, 1, 1)))
        return self.head(spikes.unflatten(0, (T, -1)).mean((0, -1, -2)))

    def loop(self, x):
        return sum(self.head(self.spike(self.conv(x)).mean((-1, -2))) for _ in range(T)) / T

    def functional(self, x):
        def step():
            return F.conv2d(x, self.conv.weight, padding=1)

        return self.head(sum(self.spike(step()) for _ in range(T)).mean((-1, -2)))

    def folded(self, x):
        weight = self.conv.weight * self.conv.weight.new_full((4, 1, 1, 1), 2.0)
        spikes = self.spike(F.conv2d(x, weight, padding=1).expand(T, *[-1] * 4))
        return self.head(spikes.mean((0, -1, -2)))


ORDERS = ("shared", "repeated", "loop", "functional", "folded")


def maps(network, x, **options):
    return [r for r in profile(network, [x], **options).rows() if r["role"] == "map"]


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_layer_is_charged_once_a_step_however_time_is_run(order):
    network = Net(order)
    first, head = maps(network, IMAGES, steps=T)
    assert first["macs"] == T * CONVOLUTION
    executed = 1 if order in ("shared", "folded") else T
    assert first["macs_executed"] == executed * CONVOLUTION
    times = T if order == "loop" else 1
    assert head["macs"] == head["macs_executed"] == times * 20
    assert first["spikformer_pj"] == pytest.approx(4.6 * T * CONVOLUTION)
    assert head["spikformer_pj"] == 0
    assert first["ann-twin_pj"] == pytest.approx(4.6 * CONVOLUTION)
    assert head["ann-twin_pj"] == pytest.approx(4.6 * 20)


@pytest.mark.parametrize("order", ORDERS)
def test_uneven_batches_and_single_samples_change_nothing(order):
    network = Net(order)
    more = torch.rand(T * B + 1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    alone = profile(network, [image[None] for image in more], steps=T).total()
    together = profile(network, [more[:T], more[T : T + 1], more[T + 1 :]], steps=T).total()
    assert together == pytest.approx(alone)


@pytest.mark.parametrize("batch_axis", [0, 1])
def test_frames_may_have_time_first(batch_axis):
    class Frames(Net):
        def forward(self, x):
            spikes = self.spike(self.conv(x.flatten(0, 1)))
            return self.head(spikes.mean((-1, -2)))

    frames = IMAGES.expand(T, *IMAGES.shape)
    frames = frames if batch_axis == 1 else frames.transpose(0, 1)
    first, head = maps(Frames(""), frames, steps=T, batch_axis=batch_axis)
    assert first["macs"] == first["macs_executed"] == T * CONVOLUTION
    assert head["macs"] == T * 20
    assert head["ann-twin_pj"] == pytest.approx(4.6 * 20)


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv1d(3, 4, 3, padding=1, bias=False), (B, 3, T), T * 36),
        (nn.Conv3d(3, 4, 3, padding=1, bias=False), (B, 3, T, 8, 8), T * 64 * 27 * 12),
    ],
)
def test_a_convolution_over_time_is_not_shared_by_it(layer, shape, macs):
    (row,) = maps(nn.Sequential(layer), torch.rand(shape), steps=T)
    assert row["macs"] == row["macs_executed"] == macs


def test_tokens_of_a_still_image_are_shared_too():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(12, 6, bias=False)
            self.spike = Spike()

        def forward(self, x):
            tokens = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3)
            return self.spike(self.embed(tokens.flatten(1, 2)).expand(T, -1, -1, -1)).mean(0)

    (row,) = maps(Patches(), IMAGES, steps=T)
    assert (row["macs_executed"], row["macs"]) == (16 * 72, T * 16 * 72)


def test_attention_of_pytorch_is_seen():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    found = profile(layer, [torch.rand(B, 5, 8)], steps=1, still=False)
    roles = [row["role"] for row in found.rows()]
    assert roles.count("attention") == 1
    assert roles.count("map") == 4
    attention = next(row for row in found.rows() if row["role"] == "attention")
    assert attention["macs_tokens_first"] == 2 * 5 * 5 * 8
    assert attention["spikformer_pj"] == pytest.approx(4.6 * attention["macs"])
    assert found.uncounted == ()


def test_what_nobody_counts_is_named():
    found = profile(
        nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 5)), [torch.rand(2, 6, 3)], steps=1, still=False
    )
    assert len(found.uncounted) == 1
    assert "lstm" in found.uncounted[0] or "rnn" in found.uncounted[0]


def test_cross_attention_by_hand():
    class Cross(nn.Module):
        def forward(self, x):
            q, kv = x[:, :3], x[:, 3:]
            return (q @ kv.mT * 0.5).softmax(-1) @ kv

    (row,) = profile(Cross(), [torch.rand(1, 8, 2)], steps=1, still=False).rows()
    # 3 queries, 5 keys, 2 wide
    assert (row["macs_tokens_first"], row["macs_keys_first"]) == (60, 5 * 4 + 3 * 4)
    assert (row["role"], row["macs"]) == ("attention", 60)


@pytest.mark.parametrize("attention", ["vsa", "vsa_float", "identity", "relu", "leaky_relu"])
def test_float_attention_multiplies_and_never_earns(attention):
    model = create_model("spikformer_2_64_patch4", attention=attention)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.bias"):
            nn.init.constant_(parameter, 0.8)
    found = profile(model, [torch.rand(2, 1, 16, 16)])
    for row in found.rows():
        assert all(value >= 0 for name, value in row.items() if name.endswith("_pj"))
        if row["role"] == "attention":
            tokens, width = 16, 64
            product = model.steps * tokens**2 * width  # the paper's OPs of A_I: Q K^T alone
            spikes = 0 if attention == "vsa_float" else row["spikformer_pj"] - 4.6 * product
            assert 0 <= spikes < 0.9 * product
            if attention == "vsa_float":
                assert row["spikformer_pj"] == pytest.approx(4.6 * 2 * product)


def test_spikes_of_either_sign_count_by_their_size():
    class Ternary(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

        def forward(self, x):
            return self.second(self.first(x).sign().sign() * 0 + torch.tensor([-1.0, 0, 1, -1]))

    row = maps(Ternary(), torch.rand(1, 4), steps=1)[1]
    assert (row["input"], row["input_rate"], row["additions"]) == ("integer", 0.75, 9)
    assert row["spikingformer_pj"] == pytest.approx(0.9 * 0.75 * 12)
    assert row["neurobench_pj"] == pytest.approx(0.9 * 9)
    assert row["spikingresformer_pj"] == pytest.approx(0.9 * 9)


def test_a_membrane_in_a_buffer_is_no_weight():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(4, 4, bias=False)
            self.register_buffer("v", torch.zeros(1, 4, 4))

        def forward(self, x):
            self.v.zero_()
            self.v.add_(self.map(x))
            spikes = (self.v > 0).float()
            return spikes @ (spikes.mT @ spikes)

    roles = [r["role"] for r in profile(Stateful(), [torch.rand(1, 4, 4)], steps=1).rows()]
    assert roles == ["map", "attention"]


def test_products_of_weights_alone_are_no_maps():
    class Factored(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.rand(3, 2)), nn.Parameter(torch.rand(2, 4))

        def forward(self, x):
            return F.linear(x, self.a @ self.b)

    (row,) = maps(Factored(), torch.rand(2, 4), steps=1)
    assert row["macs"] == 12


def test_mixed_precision_counts_the_same_in_every_batch():
    network = Net("shared")
    with torch.autocast("cpu", torch.bfloat16):
        found = profile(network, [IMAGES, IMAGES, IMAGES], steps=T)
    assert [row["role"] for row in found.rows()] == ["map", "neuron", "map"]
    assert found.rows()[0]["macs"] == T * CONVOLUTION


def test_a_network_that_fails_is_one_clear_error_and_left_as_it_was():
    network = Net("shared").train()
    network.spike.eval()
    with pytest.raises(ConfigError, match=r"the network fails on \[2, 1, 8, 8\]: "):
        profile(network, [IMAGES[:, :1]], steps=T)
    assert network.conv.training
    assert not network.spike.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_network_that_keeps_its_state_is_reset_before_every_batch():
    calls = []
    profile(Net("shared"), [IMAGES, IMAGES[:1]], steps=T, before=lambda: calls.append(None))
    assert len(calls) == 2
