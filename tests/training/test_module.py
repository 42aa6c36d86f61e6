"""What a step computes, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.trainings import SMALL as SMALL_RUN
from helpers.trainings import digits
from torch import nn

from spikformer import create_model, load_weights, save_weights
from spikformer.probe import RateMeter, firing_rates
from spikformer.recipe import Optim
from spikformer.training._compiling import compiled
from spikformer.training.module import training_loss
from spikformer.training.run import read_curve

SMALL = {"dim": 32, "depth": 1, "heads": 2}


def small(**overrides):
    return create_model("spikformer_2_64_patch4", **(SMALL | overrides))


def test_the_mean_loss_is_the_cross_entropy_of_the_logits():
    logits = torch.tensor([[math.log(3.0), 0.0]])
    # probabilities 3/4 and 1/4; smoothing 0.2 asks for 0.9 and 0.1
    expected = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))
    found = training_loss(logits, torch.tensor([0]), Optim(label_smoothing=0.2))
    assert found.item() == pytest.approx(expected)


def test_mixed_targets_and_labels_give_the_same_loss_where_nothing_is_mixed():
    logits, labels = torch.randn(5, 4), torch.arange(5) % 4
    optim = Optim(label_smoothing=0.1)
    soft = training_loss(logits, F.one_hot(labels, 4).float(), optim)
    assert torch.allclose(soft, training_loss(logits, labels, optim))


def test_the_tet_loss_by_hand():
    steps = torch.tensor([[[math.log(3.0), 0.0]], [[0.0, 0.0]]])  # two steps, one sample
    each = [-math.log(0.75), -math.log(0.5)]
    pull = ((math.log(3.0) - 1) ** 2 + 3) / 4
    expected = 0.9 * sum(each) / 2 + 0.1 * pull
    found = training_loss(steps, torch.tensor([0]), Optim(loss="tet", tet_share=0.1))
    assert found.item() == pytest.approx(expected)


def test_the_meter_reads_the_rates_that_the_probe_counts():
    model = small()
    meter = RateMeter(model)
    images = torch.rand(3, 1, 16, 16)
    with firing_rates(model) as rates:
        model(images)
    assert meter.read() == pytest.approx(rates.by_layer(), rel=1e-5)
    model.eval()(images)  # what is evaluated does not count
    assert meter.read() == pytest.approx(rates.by_layer(), rel=1e-5)
    meter.reset()
    assert meter.read() == {}


def test_the_meters_sums_travel_with_the_network():
    model = small()
    meter = RateMeter(model)
    model(torch.rand(2, 1, 16, 16))
    again = RateMeter(small())
    again.load_state_dict(meter.state_dict())
    assert again.read() == meter.read()


@pytest.mark.parametrize("layout", ["native", "cifar10"])
def test_weights_load_without_their_head_for_other_classes(tmp_path, layout):
    source, target = small(num_classes=10), small(num_classes=7)
    nn.init.constant_(source.position.norm.bias, 0.25)
    path = tmp_path / "weights.safetensors"
    save_weights(source, path, layout=layout)
    before = target.head.weight.clone()
    load_weights(target, path, head=False)
    assert torch.equal(target.position.norm.bias, source.position.norm.bias)
    assert torch.equal(target.head.weight, before)


@pytest.mark.compiled
def test_what_is_made_again_in_a_compiled_step_leaves_gradients_as_they_are():
    torch._dynamo.reset()
    model = create_model("spikformer_2_64_patch4", depth=1, dim=16, heads=2, steps=2).double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    found = []
    for forward in (model.forward, compiled(model.forward, memory_budget=0.8)):
        model.zero_grad()
        logits = forward(images)
        logits.square().sum().backward()
        found.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
    for eager, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-9, atol=1e-12)


@pytest.mark.compiled
def test_a_compiled_run_learns_as_the_eager_one(tmp_path):
    from spikformer.training.fit import train

    curves = []
    for compiles in (False, True):
        torch._dynamo.reset()
        recipe = digits(SMALL_RUN, {"model.depth": 1}, epochs=1, compile=compiles)
        run = train(recipe, tmp_path / str(compiles))
        curves.append(read_curve(run.curve)[0])
    eager, ours = curves
    for column in ("train_loss", "validation_loss", "firing_rate"):
        assert ours[column] == pytest.approx(eager[column], rel=0.02)
