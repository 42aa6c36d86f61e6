"""The authors' state dicts, in their four layouts, into our network and back."""

import pytest
import torch
from helpers import authors

from spikformer import Spikformer, create_model, load_weights, save_weights
from spikformer.errors import ConfigError, WeightsError
from spikformer.models import WeightsReport

DEPTH, DIM, CHANNELS, CLASSES = 2, 16, 3, 5
every_layout = pytest.mark.parametrize("layout", authors.LAYOUTS)
HALVES = ("weight", "bias")
DEAD = {
    f"block.{block}.norm{k}.{half}" for block in range(DEPTH) for k in (1, 2) for half in HALVES
}
DEAD_DVS = DEAD | {"pos_embed", "norm.weight", "norm.bias"}


def state(layout, seed=0):
    return authors.state(layout, DEPTH, DIM, CHANNELS, CLASSES, seed)


def model(layout=None, seed=0, **overrides):
    torch.manual_seed(seed)
    arguments = {"in_chans": CHANNELS, "num_classes": CLASSES, "qkv_bias": layout == "cifar10"}
    return Spikformer(DEPTH, DIM, 2, **arguments | overrides)


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert torch.equal(found[name], value), name


def saved(module, path, layout):
    """What a file in that layout holds, and the report of writing it."""
    report = save_weights(module, path, layout=layout)
    return torch.load(path, weights_only=True)["state_dict"], report


def dead_keys(layout):
    return DEAD_DVS if layout == "cifar10dvs" else DEAD


@every_layout
def test_authors_to_ours_to_authors_to_the_bit(layout, tmp_path):
    theirs, ours = state(layout), model(layout)
    report = load_weights(ours, theirs)
    assert report.layout == layout
    assert set(report.dead) == dead_keys(layout)
    assert report.missing == ()

    found, report = saved(ours, tmp_path / "theirs.pth", layout)
    assert set(report.dead) == dead_keys(layout)
    assert report.missing == ()
    as_constructed = {
        key: torch.ones_like(value) if key.endswith(".weight") else torch.zeros_like(value)
        for key, value in theirs.items()
        if key in report.dead
    }
    assert_same(found, theirs | as_constructed)


@every_layout
def test_ours_to_authors_to_ours_to_the_bit(layout, tmp_path):
    ours = model(layout)
    for value in ours.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    save_weights(ours, tmp_path / "theirs.pth.tar", layout=layout)
    again = model(layout, seed=1)
    load_weights(again, tmp_path / "theirs.pth.tar")
    assert_same(snapshot(again), snapshot(ours))


@every_layout
def test_every_entry_goes_where_it_belongs(layout):
    # Queries, keys and values are joined in this order; the rest keeps its name's meaning.
    theirs, ours = state(layout), model(layout)
    load_weights(ours, theirs)
    native = ours.state_dict()
    kind = "linear" if layout == "cifar10" else "conv"
    for block in range(DEPTH):
        there = f"block.{block}.attn"
        joined = torch.cat([theirs[f"{there}.{part}_{kind}.weight"] for part in "qkv"])
        assert torch.equal(
            native[f"blocks.{block}.attention.qkv.conv.weight"].flatten(), joined.flatten()
        )
        means = torch.cat([theirs[f"{there}.{part}_bn.running_mean"] for part in "qkv"])
        assert torch.equal(native[f"blocks.{block}.attention.qkv.norm.running_mean"], means)
        assert torch.equal(
            native[f"blocks.{block}.mlp.fc2.conv.weight"].flatten(),
            theirs[f"block.{block}.mlp.fc2_{kind}.weight"].flatten(),
        )
    first, third = (
        ("block1_conv", "block3_bn") if layout == "cifar10_first" else ("proj_conv", "proj_bn2")
    )
    assert torch.equal(native["stem.stages.0.conv.weight"], theirs[f"patch_embed.{first}.weight"])
    assert torch.equal(
        native["stem.stages.2.norm.running_var"], theirs[f"patch_embed.{third}.running_var"]
    )
    assert torch.equal(native["position.conv.weight"], theirs["patch_embed.rpe_conv.weight"])


# Sizes of the authors' own models: entries, and parameters with those that nothing reads.
FULL_SIZE = [
    ("cifar10", "spikformer_4_384_patch4", (4, 384, 3, 10), 216, 9_330_874),
    ("imagenet", "spikformer_8_512", (8, 512, 3, 1000), 376, 29_705_768),
    ("cifar10dvs", "spikformer_2_256_dvs", (2, 256, 2, 10), 121, 2_585_610),
]


@pytest.mark.parametrize(("layout", "name", "sizes", "entries", "count"), FULL_SIZE)
def test_the_authors_own_models_load(layout, name, sizes, entries, count, tmp_path):
    theirs = authors.state(layout, *sizes)
    assert len(theirs) == entries
    assert authors.parameters(theirs) == count
    ours = create_model(name)
    report = load_weights(ours, theirs)
    dead = sum(theirs[key].numel() for key in report.dead)
    assert sum(p.numel() for p in ours.parameters()) == count - dead
    found, _ = saved(ours, tmp_path / "theirs.pth", layout)
    assert found.keys() == theirs.keys()
    live = theirs.keys() - set(report.dead)
    assert all(torch.equal(found[key], theirs[key]) for key in live)


def test_biases_that_a_checkpoint_lacks_are_zero():
    ours = model(qkv_bias=True)
    report = load_weights(ours, state("imagenet"))
    assert report.missing == tuple(f"blocks.{i}.attention.qkv.conv.bias" for i in range(DEPTH))
    assert not any(ours.state_dict()[key].any() for key in report.missing)


def test_biases_that_a_model_lacks_are_written_as_zero(tmp_path):
    found, report = saved(model(), tmp_path / "theirs.pth", "cifar10")
    assert set(report.missing) == {
        f"block.{i}.attn.{part}_linear.bias" for i in range(DEPTH) for part in "qkv"
    }
    assert not any(found[key].any() for key in report.missing)
    assert found.keys() == state("cifar10").keys()


def test_biases_without_a_place_may_be_zero_but_not_lost(tmp_path):
    ours = model(qkv_bias=True, init="linear")
    save_weights(ours, tmp_path / "theirs.pth", layout="imagenet")
    ours.blocks[1].attention.qkv.conv.bias.data[3] = 1e-9
    with pytest.raises(WeightsError, match=r"blocks\.1\.attention\.qkv\.conv\.bias"):
        save_weights(ours, tmp_path / "theirs.pth", layout="imagenet")


@pytest.mark.parametrize("extra", [{"neuron": "plif"}, {"learnable_scale": True}], ids=str)
def test_what_the_authors_have_no_place_for_is_not_dropped(extra, tmp_path):
    ours = model(**extra)
    with pytest.raises(WeightsError, match="entries are without a place in layout 'imagenet'"):
        save_weights(ours, tmp_path / "theirs.pth", layout="imagenet")
    before = snapshot(ours)
    with pytest.raises(WeightsError, match=r"entries are missing: .*(neuron|scale)"):
        load_weights(ours, state("imagenet"))
    assert_same(snapshot(ours), before)


def without(key):
    return lambda entries: entries.pop(key)


def with_extra(key):
    return lambda entries: entries.update({key: torch.zeros(2)})


def with_shape(key, *shape):
    return lambda entries: entries.update({key: torch.zeros(shape)})


SPOILED = [
    (without("patch_embed.proj_conv1.weight"), "1 entries are missing: patch_embed.proj_conv1"),
    (without("block.1.attn.k_conv.weight"), r"missing: block\.1\.attn\.k_conv\.weight"),
    (without("head.bias"), r"missing: head\.bias"),
    (with_extra("block.2.attn.q_bn.bias"), r"unexpected: block\.2\.attn\.q_bn\.bias"),
    (with_extra("block.0.attn.q_conv.bias"), r"unexpected: block\.0\.attn\.q_conv\.bias"),
    (with_extra("wings"), "unexpected: wings"),
    (with_shape("head.weight", 7, DIM), r"head\.weight must have shape \[5, 16\], got \[7, 16\]"),
    (
        with_shape("block.0.attn.v_conv.weight", DIM, DIM),
        r"v_conv\.weight must have shape \[16, 16, 1\], got \[16, 16\]",
    ),
    (
        with_shape("patch_embed.proj_bn.num_batches_tracked", 3),
        r"proj_bn\.num_batches_tracked must have shape \[\], got \[3\]",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILED, ids=[message for _, message in SPOILED])
def test_a_state_dict_that_does_not_fit_is_refused_and_changes_nothing(spoil, message):
    ours, theirs = model(), state("imagenet")
    spoil(theirs)
    before = snapshot(ours)
    with pytest.raises(WeightsError, match=message):
        load_weights(ours, theirs)
    assert_same(snapshot(ours), before)


SPOILED_NATIVE = [
    (without("head.bias"), r"1 entries are missing: head\.bias"),
    (with_extra("wings"), "1 entries are unexpected: wings"),
    (with_shape("head.weight", 7, DIM), r"1 entries are of another shape: head\.weight"),
    (
        with_shape("position.norm.num_batches_tracked", 1),
        r"of another shape: position\.norm\.num_batches_tracked",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "message"), SPOILED_NATIVE, ids=[message for _, message in SPOILED_NATIVE]
)
def test_a_native_state_dict_that_does_not_fit_is_refused_and_changes_nothing(spoil, message):
    ours, entries = model(), snapshot(model(seed=1))
    spoil(entries)
    before = snapshot(ours)
    with pytest.raises(WeightsError, match=message):
        load_weights(ours, entries)
    assert_same(snapshot(ours), before)


def test_a_native_state_dict_loads():
    ours, entries = model(), snapshot(model(seed=1))
    assert load_weights(ours, entries) == WeightsReport("native")
    assert_same(snapshot(ours), entries)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"fc.weight": torch.zeros(1)}, "not the weights of a Spikformer .*it holds fc.weight"),
        ({}, "not the weights of a Spikformer .*it holds nothing"),
    ],
)
def test_weights_of_something_else_are_refused(entries, message):
    with pytest.raises(WeightsError, match=message):
        load_weights(model(), entries)


@pytest.mark.parametrize("depth", [1, 3])
def test_another_depth_is_refused(depth):
    theirs = authors.state("cifar10dvs", depth, DIM, CHANNELS, CLASSES)
    with pytest.raises(WeightsError, match=r"entries are (unexpected: block\.2|missing: block\.1)"):
        load_weights(model(), theirs)


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown layout 'imagent'; did you mean imagenet"):
        save_weights(model(), tmp_path / "theirs.pth", layout="imagent")
    assert not list(tmp_path.iterdir())
