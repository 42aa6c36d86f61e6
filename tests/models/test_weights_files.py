"""Files of weights: what is written, what is read, and what is not trusted."""

import argparse
import json
import os
import pickle
import subprocess
from contextlib import suppress

import numpy as np
import pytest
import torch
from helpers import authors
from helpers.networks import TINY, tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from spikformer import (
    Card,
    Spikformer,
    create_model,
    load_model,
    load_weights,
    read_card,
    save_weights,
)
from spikformer._files import replacing
from spikformer.errors import DataError, SpikformerError, WeightsError

# PyTorch warns of pickles that are not of its own making before it refuses them.
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")

NAME = "spikformer_2_64_patch4"
ARGUMENTS = {key: TINY[key] for key in ("dim", "heads", "in_chans", "num_classes", "scale")} | {
    "pools": [True, True]
}
CARD = Card(
    NAME,
    ARGUMENTS,
    classes=("ant", "bee", "cat", "dog", "eel"),
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    input_size=(3, 8, 8),
    interpolation="bicubic",
    split="first half",
    facts={"accuracy": 0.5, "seed": 3},
)


def network():
    return tiny(qkv_bias=True, init="linear").float()


def theirs(seed=0):
    return authors.state("imagenet", 1, 16, 3, 5, seed)


def ours():
    return create_model(NAME, depth=1, dim=16, heads=2, in_chans=3, num_classes=5, qkv_bias=False)


def assert_loaded(model, entries):
    assert torch.equal(model.head.weight, entries["head.weight"])
    assert torch.equal(model.position.norm.running_var, entries["patch_embed.rpe_bn.running_var"])


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# What we write.


def test_a_model_comes_back_from_its_file(tmp_path):
    path = tmp_path / "weights.safetensors"
    model, x = network(), torch.rand(3, 3, 8, 8)
    assert save_weights(model, path, card=CARD).layout == "native"
    assert read_card(path) == CARD
    again = load_model(path)
    assert not again.training
    assert torch.equal(again(x), model(x))
    assert model(x).std(0).max() > 0


def test_arguments_of_the_card_can_be_replaced(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, card=CARD)
    model = load_model(path, steps=2, neuron="if")
    assert model.steps == 2
    assert type(model.stem.stages[0].neuron).__name__ == "IF"


def test_none_replaces_an_argument_of_the_card(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, card=Card(NAME, ARGUMENTS | {"qk_pool": 3}))
    assert load_model(path).blocks[0].attention.qk_pool == 3
    assert load_model(path, qk_pool=None).blocks[0].attention.qk_pool is None


def test_every_argument_of_a_model_fits_its_card(tmp_path):
    path = tmp_path / "weights.safetensors"
    model, x = network(), torch.rand(3, 3, 8, 8)
    save_weights(model, path, card=Card(NAME, model.arguments))
    assert torch.equal(load_model(path)(x), model(x))


def test_a_part_that_a_card_cannot_name_is_refused(tmp_path):
    # A class or a function has no name that another process could trust.
    model = tiny(neuron=lambda *, threshold: torch.nn.Identity(), enlivened=False)
    with pytest.raises(SpikformerError, match="neuron"):
        save_weights(model, tmp_path / "weights.safetensors", card=Card(NAME, model.arguments))


def test_without_a_card_the_file_says_what_the_network_knows(tmp_path):
    path = tmp_path / "weights.safetensors"
    model = network().eval()
    save_weights(model, path)
    images = torch.rand(2, model.in_chans, 8, 8)
    assert torch.equal(load_model(path)(images), model(images))
    named = create_model("spikformer_2_256_gesture", qk_pool=None)
    save_weights(named, path)
    card = read_card(path)
    assert (card.model, card.input_size) == ("spikformer_2_256_gesture", (2, 128, 128))
    assert load_model(path).arguments == named.arguments


def test_a_file_of_others_describes_no_model(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(network().state_dict(), path)
    with pytest.raises(WeightsError, match="does not describe its model; build one and use load_w"):
        load_model(path)
    (tmp_path / "authors.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="does not describe its model"):
        read_card(tmp_path / "authors.pth")


def test_a_card_goes_with_our_layout_alone(tmp_path):
    with pytest.raises(WeightsError, match="a card goes with layout 'native' alone"):
        save_weights(ours(), tmp_path / "a.pth", layout="imagenet", card=Card("spikformer_8_384"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_names_are_taken_off_wherever_the_state_comes_from(tmp_path, prefix):
    model, again = network(), network()
    again.head.bias.data += 1
    state = {prefix + key: value for key, value in model.state_dict().items()}
    load_weights(again, state)
    assert torch.equal(again.head.bias, model.head.bias)
    again.head.bias.data += 1
    save_file(state, tmp_path / "w.safetensors")
    load_weights(again, tmp_path / "w.safetensors")
    assert torch.equal(again.head.bias, model.head.bias)


def test_a_wrapped_network_saves_and_loads_as_itself(tmp_path):
    model, again = network(), network()
    again.head.bias.data += 1
    wrapped = torch.nn.Module()
    wrapped.module = model
    save_weights(wrapped, tmp_path / "w.safetensors")
    around = torch.nn.Module()
    around.module = again
    load_weights(around, tmp_path / "w.safetensors")
    assert torch.equal(again.head.bias, model.head.bias)


def test_averaged_weights_are_asked_of_a_checkpoint_alone(tmp_path):
    model = network()
    with pytest.raises(WeightsError, match="ema=True needs a checkpoint"):
        load_weights(model, model.state_dict(), ema=True)
    save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="ema=True needs a checkpoint"):
        load_weights(model, tmp_path / "w.safetensors", ema=True)


def test_a_network_that_a_layouts_file_would_run_otherwise_is_reported(tmp_path):
    other = Spikformer(1, 16, 2, scale=0.5, neuron="if", qkv_bias=True)
    report = save_weights(other, tmp_path / "w.pth", layout="cifar10")
    assert {line.split()[0] for line in report.differs} == {"pools", "scale", "neuron"}
    assert load_weights(other, tmp_path / "w.pth").differs == report.differs
    same = create_model("spikformer_2_384_patch4")
    assert save_weights(same, tmp_path / "w.pth", layout="cifar10").differs == ()


def test_weights_are_as_readable_as_other_new_files(tmp_path):
    save_weights(network(), tmp_path / "w.safetensors")
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_tensors_in_any_order_of_memory_are_written(tmp_path):
    path = tmp_path / "weights.safetensors"
    model = network().to(memory_format=torch.channels_last)
    save_weights(model, path, card=CARD)
    x = torch.rand(3, 3, 8, 8)
    assert torch.equal(load_model(path)(x), network()(x))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pth.tar"])
def test_files_in_an_authors_layout_have_exactly_their_entries(tmp_path, suffix):
    path = tmp_path / f"theirs{suffix}"
    model = ours()
    save_weights(model, path, layout="imagenet")
    if suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            keys = set(file.keys())
            assert file.metadata()["layout"] == "imagenet"
    else:
        keys = set(torch.load(path, weights_only=True)["state_dict"])
    assert keys == set(theirs())
    again = ours()
    load_weights(again, path)
    assert torch.equal(again.head.weight, model.head.weight)


@pytest.mark.parametrize(
    ("name", "layout", "allowed"),
    [
        ("weights.pth", "native", r"\.safetensors for layout 'native'"),
        ("weights.txt", "native", r"\.safetensors for layout 'native'"),
        ("weights", "imagenet", r"\.safetensors, \.pth or \.pth\.tar for layout 'imagenet'"),
    ],
)
def test_other_suffixes_are_not_written(tmp_path, name, layout, allowed):
    with pytest.raises(WeightsError, match=f"path must end in {allowed}, got '{name}'"):
        save_weights(ours(), tmp_path / name, layout=layout)
    assert not list(tmp_path.iterdir())


def test_an_old_file_stays_when_the_new_one_fails(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as partial:
            assert partial != path
            assert partial.suffix == path.suffix
            partial.write_bytes(b"half of the n")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_replaces_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "deep" / "folder" / "weights.safetensors"
    with replacing(path) as partial:
        partial.write_bytes(b"new")
        assert not path.exists()
    with replacing(path) as partial:
        partial.write_bytes(b"newer")
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"
    assert list(path.parent.iterdir()) == [path]


# What others write.


def checkpoint(**extra):
    """What timm's training script saves."""
    optimizer = torch.optim.AdamW(ours().parameters())
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "growth_interval": 2000, "_growth_tracker": 0}
    return {
        "epoch": 299,
        "arch": "spikformer",
        "state_dict": theirs(),
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": argparse.Namespace(lr=5e-4, model="spikformer", mean=(0.5, 0.5), resume=None),
        "amp_scaler": scaler,
        **extra,
    }


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"metric": np.float64(95.19)},
        {"metric": np.float32(95.19)},
        {"metric": np.int64(95)},
        {"metric": 95.19, "amp_scaler": {}},
    ],
    ids=str,
)
def test_checkpoints_of_timm_load(tmp_path, extra):
    path = tmp_path / "model_best.pth.tar"
    torch.save(checkpoint(**extra), path)
    model = ours()
    assert load_weights(model, path).layout == "imagenet"
    assert_loaded(model, theirs())


def test_checkpoints_from_before_the_zip_format_load(tmp_path):
    path = tmp_path / "old.pth.tar"
    torch.save(checkpoint(metric=np.float64(95.19)), path, _use_new_zipfile_serialization=False)
    model = ours()
    load_weights(model, path)
    assert_loaded(model, theirs())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_taken_off(tmp_path, prefix):
    path = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {prefix + key: value for key, value in theirs().items()}}, path)
    model = ours()
    load_weights(model, path)
    assert_loaded(model, theirs())


@pytest.mark.parametrize(
    "wrapping", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}]
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".bin"])
def test_state_dicts_load_bare_or_wrapped(tmp_path, wrapping, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save(wrapping(theirs()), path)
    model = ours()
    load_weights(model, path)
    assert_loaded(model, theirs())


def test_averaged_weights_are_taken_on_demand(tmp_path):
    path = tmp_path / "both.pth.tar"
    torch.save(checkpoint(state_dict_ema=theirs(seed=1)), path)
    model = ours()
    load_weights(model, path)
    assert_loaded(model, theirs(seed=0))
    load_weights(model, path, ema=True)
    assert_loaded(model, theirs(seed=1))


def test_averaged_weights_that_are_not_there_are_not_replaced_by_others(tmp_path):
    path = tmp_path / "one.pth.tar"
    torch.save(checkpoint(), path)
    with pytest.raises(WeightsError, match="no averaged weights"):
        load_weights(ours(), path, ema=True)


@pytest.mark.parametrize(
    "content",
    [{"optimizer": {}}, {"state_dict": [1, 2]}, {"state_dict": {"head.weight": 3}}, [1.0], 7],
    ids=str,
)
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "empty.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"empty\.pth holds no state dict"):
        load_weights(ours(), path)


# What is not trusted.


class Runs:
    """Pickles into a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker):
    """(what the refusal must name, an object whose unpickling would create `marker`)."""
    return {
        "system": Runs(os.system, f"touch {marker}"),
        "Popen": Runs(subprocess.Popen, ["touch", str(marker)]),
        "eval": Runs(eval, f"open({str(marker)!r}, 'w')"),
        "open": Runs(open, str(marker), "w"),
    }


@pytest.mark.parametrize("name", attacks(""))
@pytest.mark.parametrize("place", ["beside", "instead", "inside"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_by_name(tmp_path, name, place, zipped):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    evil = attacks(marker)[name]
    content = {
        "beside": checkpoint(metric=evil),
        "instead": evil,
        "inside": {"state_dict": theirs() | {"head.bias": evil}},
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = ours()
    before = snapshot(model)
    with pytest.raises(WeightsError, match=rf"wants to run \S*{name}, which is not on the list"):
        load_weights(model, path)
    assert not marker.exists()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_attacks_are_real(tmp_path):
    # Without this, the test above could pass on harmless files.
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(attacks(marker)["system"]))
    assert marker.exists()


def test_a_plain_pickle_is_refused(tmp_path):
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    path.write_bytes(pickle.dumps(attacks(marker)["system"]))
    with pytest.raises(WeightsError):
        load_weights(ours(), path)
    assert not marker.exists()


@pytest.mark.parametrize("part", ["neuron", "attention"])
def test_code_that_a_card_names_is_not_loaded(tmp_path, part, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(
        "open('marker', 'w')\nfrom spikformer.nn import LIF as Class\n"
    )
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, card=Card(NAME, ARGUMENTS | {part: "evil.py:Class"}))
    with pytest.raises(WeightsError, match=rf"needs the {part} 'evil\.py:Class'.*pass {part}="):
        load_model(path)
    assert not (tmp_path / "marker").exists()
    usual = {"neuron": "lif", "attention": "ssa"}[part]
    assert load_model(path, **{part: usual}) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "evil.pth"},
        {"pretrained_cfg": {"file": "evil.pth"}},
        {"pretrained_cfg_overlay": {"url": "https://example.invalid/evil.pth"}},
        {"cache_dir": "elsewhere"},
        {"features_only": True},
        {"pretrained": True},
    ],
    ids=str,
)
def test_a_card_holds_arguments_of_the_network_alone(tmp_path, arguments, monkeypatch):
    # timm's own arguments could point to another file.
    monkeypatch.chdir(tmp_path)
    torch.save(theirs() | {"x": attacks(tmp_path / "marker")["system"]}, tmp_path / "evil.pth")
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, card=Card(NAME, ARGUMENTS | arguments))
    with pytest.raises(WeightsError, match=next(iter(arguments))):
        load_model(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "card",
    [
        "not json",
        "[]",
        "{}",
        '{"model": "spikformer_2_64_patch4", "wings": 2}',
        '{"model": "spikformer_2_64_patch4", "arguments": [1, 2]}',
        '{"model": "spikformer_2_64_patch4", "arguments": {"neuron": ["lif"]}}',
        '{"model": "spikformer_2_64_patch4", "arguments": {"dim": "wide"}}',
        '{"model": "resnet18"}',
        '{"model": 18}',
    ],
)
def test_a_card_that_makes_no_sense_is_refused(tmp_path, card):
    path = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"spikformer": card})
    with pytest.raises(SpikformerError):
        load_model(path)


def test_a_card_says_what_it_says(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, card=CARD)
    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["spikformer"])
    assert card["classes"] == ["ant", "bee", "cat", "dog", "eel"]
    assert card["arguments"] == ARGUMENTS


# What is damaged.


def one_sentence(error):
    message = str(error.value)
    assert len(message) > 20
    assert "\n" not in message
    return message


def file_of(tmp_path, kind):
    path = tmp_path / f"whole{'.safetensors' if kind == 'safetensors' else '.pth'}"
    if kind == "safetensors":
        save_weights(ours(), path)
    else:
        torch.save(theirs(), path, _use_new_zipfile_serialization=kind == "zip")
    return path


KINDS = ["safetensors", "zip", "pickle"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, kind):
    path = file_of(tmp_path, kind)
    content = path.read_bytes()
    model = ours()
    before = snapshot(model)
    ends = {0, 1, 2, 7, 8, 9, 100, *range(0, len(content), len(content) // 40), len(content) - 1}
    for end in sorted(ends):
        path.write_bytes(content[:end])
        with pytest.raises((DataError, WeightsError)) as error:
            load_weights(model, path)
        assert path.name in one_sentence(error)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pth.tar"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello\nworld\n", b"<html>not found</html>", b"PK\x03\x04", b"\x80\x02}", bytes(1000)],
    ids=str,
)
def test_a_file_of_something_else_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises((DataError, WeightsError)) as error:
        load_weights(ours(), path)
    assert path.name in one_sentence(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_a_damaged_file_is_refused_or_was_not_hurt(tmp_path, data, kind):
    # Each damaged byte is caught, or changes a weight, but surfaces as no other error.
    path = file_of(tmp_path, kind)
    content = bytearray(path.read_bytes())
    reach = len(content) if kind == "zip" else min(len(content), 4000)  # where structure lies
    for place in data.draw(st.lists(st.integers(0, reach - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with suppress(DataError, WeightsError):
        load_weights(ours(), path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_is_not_there_is_named(tmp_path, suffix):
    path = tmp_path / f"nowhere{suffix}"
    with pytest.raises(DataError, match=f"there is no file .*nowhere{suffix}"):
        load_weights(ours(), path)
    path.mkdir()
    with pytest.raises(DataError, match=f"there is no file .*nowhere{suffix}"):
        load_weights(ours(), path)


def test_a_card_of_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_card(tmp_path / "nowhere.safetensors")
    with pytest.raises(DataError, match="there is no file"):
        load_model(tmp_path / "nowhere.safetensors")


def test_a_suffix_that_nobody_knows_is_refused(tmp_path):
    path = tmp_path / "weights.onnx"
    path.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"weights must be \.safetensors, .*got 'weights\.onnx'"):
        load_weights(ours(), path)


def test_maps_in_bfloat16_halve_the_file_and_norms_stay_exact(tmp_path):
    model = create_model(NAME)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_weights(model, whole)
    save_weights(model, half, dtype=torch.bfloat16)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for (key, loaded), kept in zip(
        load_model(half).state_dict().items(), model.state_dict().values(), strict=True
    ):
        expected = kept.bfloat16().to(kept.dtype) if kept.dim() > 1 else kept
        assert loaded.dtype == kept.dtype, key
        assert torch.equal(loaded, expected), key
