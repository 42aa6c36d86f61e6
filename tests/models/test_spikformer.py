"""The network: its variants, its two kinds of input, its arguments."""

import pytest
import torch
from helpers.networks import TINY, Recorder, tiny

from spikformer import Spikformer, create_model, list_models
from spikformer.errors import ConfigError
from spikformer.nn import IF

ALL_POOL, LATE_POOL = (True,) * 4, (False, False, True, True)
VARIANTS = {
    # parameters that are read, heads, pools, scale, classes, channels
    "spikformer_8_384": (16_816_024, 8, ALL_POOL, 0.125, 1000, 3),
    "spikformer_6_512": (23_373_352, 8, ALL_POOL, 0.125, 1000, 3),
    "spikformer_8_512": (29_689_384, 8, ALL_POOL, 0.125, 1000, 3),
    "spikformer_10_512": (36_005_416, 8, ALL_POOL, 0.125, 1000, 3),
    "spikformer_8_768": (66_338_632, 12, ALL_POOL, 0.125, 1000, 3),
    "spikformer_4_256_patch4": (4_155_178, 8, LATE_POOL, 0.125, 10, 3),
    "spikformer_2_384_patch4": (5_765_050, 12, LATE_POOL, 0.125, 10, 3),
    "spikformer_4_384_patch4": (9_324_730, 12, LATE_POOL, 0.125, 10, 3),
    "spikformer_2_256_dvs": (2_566_666, 16, ALL_POOL, 0.25, 10, 2),
    "spikformer_2_256_gesture": (2_566_923 + 2, 8, ALL_POOL, 0.25, 11, 2),
    "spikformer_2_64_patch4": (163_906, 4, LATE_POOL, 0.125, 10, 1),
}
"""By the paper and the authors' code; two learnable scales make the gesture model ours."""


def images(*shape):
    return torch.rand(shape, dtype=torch.float64)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def outcome(model, x):
    """Logits, gradients and running statistics of one training step."""
    model.train().zero_grad()
    logits = model(x)
    torch.manual_seed(3)
    (logits * torch.randn_like(logits)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return logits.detach(), gradients, {name: b.clone() for name, b in model.named_buffers()}


@pytest.mark.parametrize("name", list_models())
def test_variants_have_the_parameters_of_the_paper(name):
    count, heads, pools, scale, classes, channels = VARIANTS[name]
    with torch.device("meta"):
        model = create_model(name)
    assert sum(p.numel() for p in model.parameters()) == count
    _, depth, dim, *_ = name.split("_")
    assert (len(model.blocks), model.num_features) == (int(depth), int(dim))
    assert {block.attention.heads for block in model.blocks} == {heads}
    assert tuple(isinstance(pool, torch.nn.MaxPool2d) for pool in model.stem.pools) == pools
    assert (model.num_classes, model.in_chans) == (classes, channels)
    if name == "spikformer_2_256_gesture":
        assert [block.attention.qk_pool for block in model.blocks] == [3, 3]
        assert all(isinstance(b.attention.scale, torch.nn.Parameter) for b in model.blocks)
    else:
        assert {block.attention.scale for block in model.blocks} == {scale}
        assert {block.attention.qk_pool for block in model.blocks} == {None}


def test_cifar_100_has_90_more_classes():
    with torch.device("meta"):
        model = create_model("spikformer_4_384_patch4", num_classes=100)
    assert sum(p.numel() for p in model.parameters()) == 9_359_380


def test_a_static_image_is_seen_as_that_many_equal_frames():
    recorder = Recorder()
    model = tiny(neuron=recorder)
    x = images(3, 3, 8, 8)
    frames = x[:, None].repeat(1, model.steps, 1, 1, 1)
    with torch.no_grad():
        once, copied = model.forward_features_steps(x), model.forward_features_steps(frames)
        recorder.assert_lively()
        assert torch.equal(once, copied)
        assert torch.equal(model.forward_steps(x), model.forward_steps(frames))
        assert torch.equal(model(x), model(frames))


def test_training_on_a_static_image_is_training_on_equal_frames():
    x = images(3, 3, 8, 8)
    frames = x[:, None].repeat(1, TINY["steps"], 1, 1, 1)
    for _ in range(2):
        logits, gradients, statistics = outcome(tiny(), x)
        others = outcome(tiny(), frames)
        close(logits, others[0], 1e-9)
        for name, gradient in gradients.items():
            close(gradient, others[1][name], 1e-9)
        for name, statistic in statistics.items():
            close(statistic, others[2][name])


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_frames_bring_their_own_number_of_steps(steps):
    model = tiny()
    with torch.no_grad():
        logits = model.forward_steps(images(2, steps, 3, 8, 8))
        assert logits.shape == (steps, 2, 5)
        assert tiny(steps=steps).forward_steps(images(2, 3, 8, 8)).shape == (steps, 2, 5)


@pytest.mark.parametrize(
    ("pools", "channels", "height", "width"),
    [
        ((True,), 1, 2, 2),
        ((False,), 1, 1, 1),
        ((True, True), 2, 12, 8),
        ((False, True, False), 3, 6, 10),
        ((True, True, True, True, True), 5, 32, 64),
    ],
)
def test_any_input_that_the_stem_divides_works(pools, channels, height, width):
    model = tiny(pools=pools, in_chans=channels, enlivened=False)
    x = images(2, channels, height, width)
    stride = 2 ** sum(pools)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (2, height // stride * (width // stride), 16)
        assert model(x).shape == (2, 5)


def test_what_comes_out_belongs_together():
    recorder = Recorder()
    model, x = tiny(neuron=recorder), images(3, 3, 8, 8)
    with torch.no_grad():
        counts = model.forward_features_steps(x)
        recorder.assert_lively()
        # Stem and position add 2 at most, each of two blocks 2 more.
        assert counts.shape == (4, 3, 4, 16)
        assert torch.equal(counts, counts.round())
        assert 3 <= counts.max() <= 6
        close(model.forward_features(x), counts.mean(0))
        close(model.forward_steps(x), model.head(counts.mean(2)))
        close(model(x), model.forward_steps(x).mean(0))
        close(model(x), model.forward_head(model.forward_features(x)))


def test_the_stream_is_the_sum_of_its_branches():
    # x = SPS(I), X0 = x + RPE(x), X' = SSA(X) + X, X'' = MLP(X') + X', by hand.
    model, x = tiny(), images(3, 3, 8, 8)
    with torch.no_grad():
        spikes = model.stem(x[None].expand(4, -1, -1, -1, -1))
        counts = spikes + model.position(spikes)
        for block in model.blocks:
            counts = counts + block.attention(counts)
            counts = counts + block.mlp(counts)
        assert torch.equal(model.forward_features_steps(x), counts.flatten(3).mT)


@pytest.mark.parametrize("init", ["linear", "conv"])
def test_initialisation(init):
    model = Spikformer(2, 64, 4, num_classes=50, init=init, qkv_bias=True)
    for block in model.blocks:
        for layer in (block.attention.qkv, block.attention.proj, block.mlp.fc1, block.mlp.fc2):
            weight, bias = layer.conv.weight, layer.conv.bias
            bound = weight.shape[1] ** -0.5  # PyTorch's uniform is +-1 / sqrt(fan in)
            if init == "linear":
                assert weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert weight.abs().max() > 0.05, "a normal has tails, a uniform has none"
                assert not bias.any()
            else:
                assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
                assert weight.abs().max() <= bound
                assert 0 < bias.abs().max() <= bound
    for layer in (model.stem.stages[3], model.position):
        bound = (9 * layer.conv.weight.shape[1]) ** -0.5
        assert layer.conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert layer.conv.bias is None
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.head.bias.any()


@pytest.mark.parametrize("name", list_models())
def test_the_cifar_models_alone_are_initialised_as_linear_maps(name):
    assert create_model(name, depth=1).arguments["init"] == (
        "linear" if name.endswith("patch4") else "conv"
    )


def test_drop_path_rises_linearly_to_the_last_block():
    model = tiny(depth=5, drop_path_rate=0.2, enlivened=False)
    rates = [block.drop_path.rate for block in model.blocks]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_the_only_block_is_the_last_block():
    model = tiny(depth=1, drop_path_rate=0.2, enlivened=False)
    assert model.blocks[0].drop_path.rate == 0.2


CHANGES = {
    "depth": 1,
    "dim": 32,
    "heads": 4,
    "in_chans": 1,
    "num_classes": 7,
    "steps": 5,
    "scale": 0.25,
    "learnable_scale": True,
    "pools": (True, False),
    "neuron": "if",
    "attention": "vsa",
    "qkv_bias": True,
    "qk_pool": 3,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.9,
    "init": "linear",
}


@pytest.mark.parametrize("argument", CHANGES)
def test_every_argument_changes_something(argument):
    def outcome(**overrides):
        model = tiny(**overrides)
        torch.manual_seed(1)
        logits = model.train()(images(4, model.in_chans, 8, 8))
        return len(list(model.parameters())), logits

    (parameters, usual), (others, changed) = outcome(), outcome(**{argument: CHANGES[argument]})
    same_logits = usual.shape == changed.shape and torch.allclose(usual, changed)
    assert parameters != others or not same_logits


def test_every_argument_is_recorded_and_builds_the_same_network():
    model = tiny(enlivened=False, **CHANGES | {"attention": "ssa", "dim": 32})
    assert set(model.arguments) == set(CHANGES)
    again = Spikformer(**model.arguments)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes
    assert again.arguments == model.arguments


def test_a_custom_neuron_keeps_the_lower_threshold_after_the_product():
    thresholds = []

    def build(*, threshold):
        thresholds.append(threshold)
        return IF(threshold=threshold)

    tiny(neuron=build, enlivened=False)
    # Two stages, position; of each block: Q K V, product, projection, and two of the MLP.
    # Attention is built with its block, after stem and position.
    assert sorted(thresholds) == [0.5] * 2 + [1.0] * 11


def test_a_neuron_comes_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from spikformer.nn import IF\n\nclass Mine(IF):\n    pass\n")
    model, x = tiny(neuron=f"{path}:Mine"), images(2, 3, 8, 8)
    assert type(model.blocks[0].attention.neuron).__name__ == "Mine"
    assert torch.equal(model(x), tiny(neuron="if")(x))
    assert not torch.equal(model(x), tiny(neuron="lif")(x))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"heads": -1}, "heads must be at least 1, got -1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"heads": 3}, "dim must be a multiple of heads, got dim=16, heads=3"),
        ({"pools": ()}, "pools must name at least one stage"),
        ({"pools": (True,) * 6}, "multiple of 2.* = 32, got dim=16"),
        ({"init": "zeros"}, "init must be one of linear, conv, got 'zeros'"),
        ({"neuron": "lift"}, r"unknown neuron 'lift'; did you mean lif or plif or if\?"),
        ({"attention": "sssa"}, r"unknown attention 'sssa'; did you mean ssa or vsa\?"),
        ({"qk_pool": 2}, "qk_pool must be odd and positive, got 2"),
        ({"drop_path_rate": 1.0}, r"drop_path must be in \[0, 1\), got 1.0"),
        ({"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive, got 0.0"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        Spikformer(**TINY | overrides)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 8, 8), r"input must be images \[B, 3, H, W\] or frames \[B, T, 3, H, W\]"),
        ((2, 4, 1, 8, 8), r"frames \[B, T, 3, H, W\], got \[2, 4, 1, 8, 8\]"),
        ((2, 3, 8, 6), r"image sides must be multiples of 4, got \[8, 6\]"),
        ((2, 2, 3, 7, 8), r"image sides must be multiples of 4, got \[7, 8\]"),
    ],
    ids=str,
)
def test_input_that_does_not_fit_is_refused(shape, message):
    model = tiny(enlivened=False)
    with pytest.raises(ConfigError, match=message):
        model(images(*shape))


def test_a_model_moves_to_half_precision():
    model = tiny().bfloat16()
    out = model(images(2, 3, 8, 8).bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_enlivened_networks_are_lively():
    # The other tests lean on this: equal silence would prove nothing.
    for seed in range(3):
        recorder = Recorder()
        model = tiny(seed, neuron=recorder)
        model(images(3, 3, 8, 8))
        recorder.assert_lively()
        assert sum(0.05 < rate < 0.4 for rate in recorder.rates) > 0.7 * len(recorder.rates)
        as_built = Recorder()
        tiny(seed, neuron=as_built, enlivened=False)(images(3, 3, 8, 8))
        assert min(as_built.rates) == 0
