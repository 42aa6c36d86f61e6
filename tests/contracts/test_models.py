"""What every registered model must do, at a small image size.

A new model is tested by being registered.
"""

import copy
import math

import pytest
import timm
import torch
from helpers.networks import Recorder, enliven, layers
from timm.models import group_parameters
from timm.optim import param_groups_weight_decay

from spikformer import create_model, list_models

B, CLASSES = 2, 5


@pytest.fixture(scope="module", params=list_models())
def built(request):
    """A lively model in eval mode, and what its neurons do."""
    torch.manual_seed(0)
    recorder = Recorder()
    model = create_model(request.param, num_classes=CLASSES, neuron=recorder)
    return enliven(model, images(model), products=3.0), recorder


@pytest.fixture
def model(built):
    # Tests may change it: it is large, so one copy at a time.
    return copy.deepcopy(built[0])


def side(model):
    """Small, with tokens enough for attention to find something."""
    info = model.feature_info[-1]
    return info["reduction"] * (2 if info["num_chs"] > 256 else 4)


def images(model, dtype=torch.float32):
    return torch.rand(B, model.in_chans, side(model), side(model), dtype=dtype)


def frames(model, steps, dtype=torch.float32):
    return torch.rand(B, steps, model.in_chans, side(model), side(model), dtype=dtype)


def test_it_is_lively(built):
    model, recorder = built
    model(images(model))
    recorder.assert_lively()
    assert all(set(spikes.unique().tolist()) == {0, 1} for spikes in recorder.spikes)


def test_shapes(model):
    x = images(model)
    tokens = (side(model) // model.feature_info[-1]["reduction"]) ** 2
    with torch.no_grad():
        counts = model.forward_features_steps(x)
        assert counts.shape == (model.steps, B, tokens, model.num_features)
        assert model.forward_steps(x).shape == (model.steps, B, CLASSES)
        assert model(x).shape == (B, CLASSES)
        assert model(frames(model, 2)).shape == (B, CLASSES)
    assert torch.equal(counts, counts.round())
    assert counts.max() <= 2 * len(model.blocks) + 2


def test_every_parameter_gets_a_gradient(model):
    model.train()(images(model)).square().sum().backward()
    normed = {f"{name}.conv.bias" for name, _ in layers(model)}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name not in normed:  # a norm takes away what a bias in front of it adds
            assert parameter.grad.abs().max() > 0, name


def test_neighbours_of_a_sample_do_not_matter_to_the_bit(model):
    x = images(model)
    others = torch.cat([x[:1], torch.rand_like(x[1:])])
    with torch.no_grad():
        found, expected = model.forward_features_steps(others), model.forward_features_steps(x)
    assert torch.equal(found[:, 0], expected[:, 0])
    assert not torch.equal(found[:, 1], expected[:, 1])


def test_alone_and_cut_short_it_does_the_same_in_float64(model):
    model.double()
    x = frames(model, 3, torch.float64)
    with torch.no_grad():
        whole = model.forward_features_steps(x)
        alone = model.forward_features_steps(x[:1])
        short = model.forward_features_steps(x[:, :2])
    assert torch.equal(alone[:, 0], whole[:, 0])
    assert torch.equal(short, whole[:2])


def test_a_static_image_is_seen_as_equal_frames_in_float64(model):
    model.double()
    x = images(model, torch.float64)
    repeated = x[:, None].expand(-1, model.steps, -1, -1, -1)
    with torch.no_grad():
        assert torch.equal(model(x), model(repeated))


def test_timm_uses_it(model):
    x = images(model)
    groups = group_parameters(model, model.group_matcher())
    assert len(groups) == len(model.blocks) + 2
    assert sum(map(len, groups.values())) == len(list(model.parameters()))
    param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    with torch.no_grad():
        final, maps = model.forward_intermediates(x)
        assert torch.equal(maps[-1].flatten(2).mT, final)
        pooled = model.forward_head(final, pre_logits=True)
        assert pooled.shape == (B, model.num_features)
        model.reset_classifier(3)
        assert model(x).shape == (B, 3)
        model.reset_classifier(0)
        torch.testing.assert_close(model(x), pooled)


def test_checkpointing_changes_no_gradient(model):
    x = images(model)
    twin = copy.deepcopy(model).train()
    twin.set_grad_checkpointing()
    model.train()
    for network in (model, twin):
        network(x).square().sum().backward()
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad)
    for buffer, other in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(buffer, other)


@pytest.mark.parametrize("name", list_models())
def test_its_features_are_where_it_says(name):
    model = timm.create_model(name, features_only=True)
    size = model.feature_info.reduction()[-1]
    with torch.no_grad():
        maps = model(torch.rand(1, model.model.in_chans, size, size))
    for x, width, reduction in zip(
        maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert x.shape == (1, width, math.ceil(size / reduction), math.ceil(size / reduction))
