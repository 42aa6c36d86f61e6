"""What users of timm expect of a model."""

import copy
from itertools import chain

import pytest
import timm
import torch
from helpers.networks import Recorder, tiny
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

from spikformer import Spikformer, create_model
from spikformer.errors import ConfigError

IMAGES = (3, 3, 8, 8)


def images():
    return torch.rand(IMAGES, dtype=torch.float64)


def test_timm_creates_our_models():
    model = timm.create_model("spikformer_2_64_patch4", num_classes=7)
    assert isinstance(model, Spikformer)
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 7)


def test_timm_resolves_how_to_prepare_images():
    model = timm.create_model("spikformer_4_384_patch4", depth=1)
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, 32, 32)
    assert config["mean"] == (0.4914, 0.4822, 0.4465)


def test_features_only_returns_every_stage_and_the_last_block():
    model = timm.create_model("spikformer_2_64_patch4", features_only=True)
    assert model.feature_info.channels() == [8, 16, 32, 64]
    assert model.feature_info.reduction() == [1, 1, 2, 4]
    maps = model(torch.rand(2, 1, 16, 16))
    assert [tuple(x.shape) for x in maps] == [
        (2, 8, 16, 16),
        (2, 16, 16, 16),
        (2, 32, 8, 8),
        (2, 64, 4, 4),
    ]


def test_features_only_takes_indices():
    model = create_model("spikformer_2_64_patch4", features_only=True, out_indices=(0, -1))
    assert model.feature_info.module_name() == ["stem.pools.0", "blocks.1"]
    assert [x.shape[1] for x in model(torch.rand(2, 1, 16, 16))] == [8, 64]


@pytest.mark.parametrize("pools", [(True, True), (True,), (True,) * 5])
def test_features_only_fits_any_number_of_stages(pools):
    model = create_model("spikformer_2_64_patch4", features_only=True, pools=pools)
    maps = model(torch.rand(2, 1, 32, 32))
    assert [x.shape[1] for x in maps] == model.feature_info.channels()
    assert len(maps) == len(pools)


def test_intermediates_are_what_modules_return():
    recorder = Recorder()
    model, x = tiny(neuron=recorder), images()
    seen = {}
    for info in model.feature_info:
        model.get_submodule(info["module"]).register_forward_hook(
            lambda _module, _inputs, out, name=info["module"]: seen.update({name: out.detach()})
        )
    with torch.no_grad():
        final, maps = model.forward_intermediates(x)
        recorder.assert_lively()
        assert len(maps) == len(model.feature_info) == 3
        for info, found in zip(model.feature_info, maps, strict=True):
            expected = seen[info["module"]]
            if info["module"].startswith("stem"):  # pools see steps and samples as one axis
                expected = expected.unflatten(0, (model.steps, -1))
            assert torch.equal(found, expected.mean(0))
            assert found.shape[1] == info["num_chs"]
            assert found.shape[-1] * info["reduction"] == x.shape[-1]
        assert torch.equal(final, model.forward_features(x))
        assert torch.equal(maps[-1].flatten(2).mT, final)


def test_intermediates_stop_early():
    model, x = tiny(), images()
    calls = []
    model.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    maps = model.forward_intermediates(x, [0, 1], stop_early=True, intermediates_only=True)
    assert len(maps) == 2
    assert not calls
    assert len(model.forward_intermediates(x, 2, intermediates_only=True)) == 2
    assert calls


@pytest.mark.parametrize("options", [{"norm": True}, {"output_fmt": "NLC"}], ids=str)
def test_intermediates_have_one_format(options):
    message = "output_fmt='NCHW' with norm=False alone"
    with pytest.raises(ConfigError, match=message):
        tiny(enlivened=False).forward_intermediates(images(), **options)


def test_the_classifier_is_replaced():
    model = tiny()
    pooled = model.forward_head(model.forward_features(images()), pre_logits=True)
    assert pooled.shape == (3, model.num_features) == (3, model.head_hidden_size)
    model.reset_classifier(9)
    assert model.get_classifier() is model.head
    assert (model.num_classes, model.arguments["num_classes"]) == (9, 9)
    assert model.head.weight.dtype == torch.float64
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert not model.head.bias.any()
    assert model(images()).shape == (3, 9)


def test_without_classes_the_pooled_features_come_out():
    model, x = tiny(), images()
    model.reset_classifier(0)
    with torch.no_grad():
        features = model.forward_features(x)
        assert torch.equal(model(x), features.mean(1))
        assert torch.equal(model.forward_head(features, pre_logits=True), features.mean(1))
        assert tiny(num_classes=0)(x).shape == (3, 16)


def test_another_pooling_is_refused():
    with pytest.raises(ConfigError, match="global_pool must be 'avg', got 'max'"):
        tiny(enlivened=False).reset_classifier(5, global_pool="max")
    tiny(enlivened=False).reset_classifier(5, global_pool="avg")


def test_parameters_group_by_depth():
    model = tiny(enlivened=False)
    groups = group_parameters(model, model.group_matcher())
    assert sorted(chain(*groups.values())) == sorted(n for n, _ in model.named_parameters())
    stem, first, second, head = (groups[layer] for layer in sorted(groups))
    assert all(name.startswith(("stem.", "position.")) for name in stem)
    assert all(name.startswith("blocks.0.") for name in first)
    assert all(name.startswith("blocks.1.") for name in second)
    assert all(name.startswith("head.") for name in head)


def test_layer_decay_slows_the_early_layers():
    groups = param_groups_layer_decay(tiny(enlivened=False), layer_decay=0.5)
    assert {group["lr_scale"] for group in groups} == {1, 0.5, 0.25, 0.125}


def test_weight_decay_spares_biases_norms_and_single_numbers():
    model = tiny(enlivened=False, neuron="plif", learnable_scale=True, qkv_bias=True)
    spared, decayed = param_groups_weight_decay(
        model, 0.05, no_weight_decay_list=model.no_weight_decay()
    )
    assert (spared["weight_decay"], decayed["weight_decay"]) == (0.0, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for p in decayed["params"]}
    assert decayed == {
        name for name in names.values() if name.endswith("conv.weight") or name == "head.weight"
    }
    assert len(spared["params"]) + len(decayed) == len(names)


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_checkpointing_changes_neither_gradients_nor_statistics(drop_path_rate):
    x = images()
    results = []
    for enable in (False, True):
        model = tiny(drop_path_rate=drop_path_rate).train()
        runs = []
        model.blocks[0].register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        model.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        model(x).square().sum().backward()
        assert len(runs) == (2 if enable else 1), "checkpointing runs every block twice"
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append((gradients, dict(model.named_buffers())))
    (gradients, buffers), (others, other_buffers) = results
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())
    assert all(torch.equal(buffer, other_buffers[name]) for name, buffer in buffers.items())
    assert buffers["blocks.0.mlp.fc1.norm.num_batches_tracked"] == 1


def test_checkpointing_is_for_training():
    model, x = tiny(), images()
    runs = []
    model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    model.set_grad_checkpointing()
    model(x).sum().backward()
    assert len(runs) == 1


def test_models_can_be_copied():
    model, x = tiny(), images()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    twin.head.bias.data += 1
    assert not torch.equal(twin(x), model(x))


def test_averaged_weights_follow_the_model():
    model = tiny()
    average = timm.utils.ModelEmaV3(model, decay=0.5)
    before = average.module.head.bias.clone()
    model.head.bias.data += 1
    average.update(model)
    torch.testing.assert_close(average.module.head.bias, before + 0.5)


def test_what_timms_training_script_passes_is_taken_when_it_is_true():
    model = timm.create_model("spikformer_2_64_patch4", drop_rate=0.0, global_pool="avg")
    assert model.num_classes == 10
    with pytest.raises(ConfigError, match="drop_rate must be 0"):
        timm.create_model("spikformer_2_64_patch4", drop_rate=0.1)
    with pytest.raises(ConfigError, match="global_pool must be 'avg'"):
        timm.create_model("spikformer_2_64_patch4", global_pool="max")


def test_features_leave_out_the_blocks_nobody_asked_for():
    whole = timm.create_model("spikformer_4_384_patch4").eval()
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    for wanted, blocks in (((0,), 0), ((2, 3), 1), ((-1,), 4)):
        features = timm.create_model(
            "spikformer_4_384_patch4", features_only=True, out_indices=wanted
        ).eval()
        assert len(features.model.blocks) == blocks
        features.model.load_state_dict(whole.state_dict(), strict=False)
        _, expected = whole.forward_intermediates(images, indices=list(wanted))
        for one, other in zip(features(images), expected, strict=True):
            assert torch.equal(one, other)
