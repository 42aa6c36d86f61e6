import fnmatch

import pytest
import timm
import torch

from spikformer import create_model, list_models
from spikformer.errors import ConfigError


def test_models_are_listed_by_wildcard():
    names = list_models()
    assert names == [name for name in timm.list_models() if name.startswith("spikformer_")]
    for pattern in ("*patch4", "*_256_*", "spikformer_8_*"):
        assert list_models(pattern) == fnmatch.filter(names, pattern) != []
    assert list_models("resnet*") == []


def test_an_unknown_name_lists_the_near_ones():
    with pytest.raises(ConfigError, match=r"did you mean spikformer_4_384_patch4"):
        create_model("spikformer_4_384_patch")


@pytest.mark.parametrize("name", ["resnet18", "hf-hub:someone/spikformer_8_512", ""])
def test_models_of_others_are_unknown(name):
    with pytest.raises(ConfigError, match="unknown model"):
        create_model(name)


def test_an_unknown_argument_is_named():
    with pytest.raises(ConfigError, match=r"spikformer_2_64_patch4: .*'head'"):
        create_model("spikformer_2_64_patch4", head=3)


def test_an_argument_that_breaks_a_rule_is_refused():
    with pytest.raises(ConfigError, match="dim must be a multiple of heads, got dim=64, heads=5"):
        create_model("spikformer_2_64_patch4", heads=5)


def test_arguments_replace_those_of_the_variant():
    model = create_model(
        "spikformer_2_64_patch4", num_classes=3, steps=2, neuron="plif", in_chans=4
    )
    assert model(torch.rand(2, 4, 8, 8)).shape == (2, 3)
    assert model.arguments["steps"] == 2
    assert model.arguments["neuron"] == "plif"
    assert model.arguments["dim"] == 64


def test_none_replaces_too():
    # timm leaves out arguments that are None; here None says that there is no pool.
    model = create_model("spikformer_2_256_gesture", depth=1, qk_pool=None)
    assert model.blocks[0].attention.qk_pool is None


def test_weights_that_nobody_published_are_refused():
    with pytest.raises(ConfigError, match="no pretrained weights are published"):
        create_model("spikformer_2_64_patch4", pretrained=True)


@pytest.mark.parametrize("name", list_models())
def test_default_configurations_describe_the_model(name):
    with torch.device("meta"):
        model = create_model(name)
    cfg = model.default_cfg
    assert cfg["num_classes"] == model.num_classes == model.head.out_features
    channels, height, width = cfg["input_size"]
    assert channels == model.in_chans == len(cfg["mean"]) == len(cfg["std"])
    assert height % model.stem.strides[-1] == width % model.stem.strides[-1] == 0
    assert model.get_submodule(cfg["first_conv"]) is model.stem.stages[0].conv
    assert model.get_submodule(cfg["classifier"]) is model.head
    assert cfg["architecture"] == name
