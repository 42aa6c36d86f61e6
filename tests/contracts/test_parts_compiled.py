"""Every registered neuron and attention under `torch.compile` and `torch.export`.

As small as networks get: one stage, one block, eight channels.
"""

import pytest
import torch
from helpers.networks import COMBINATIONS, Recorder, enliven

from spikformer import Spikformer

pytestmark = pytest.mark.compiled
B = 16
every_combination = pytest.mark.parametrize(
    ("neuron", "attention"), COMBINATIONS, ids=["-".join(names) for names in COMBINATIONS]
)
FLIPS = 1e-3
"""How many counts may differ between eager and compiled float32, as a share of all.

A spike flips when its potential lies within roundings, 1e-7, of the threshold; the compiler sums
in another order. One flip early on may move some hundred counts after it.
"""


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()


def network(neuron, attention, dtype):
    torch.manual_seed(0)
    parts = {"neuron": (recorder := Recorder(neuron)), "attention": attention}
    model = Spikformer(1, 8, 2, in_chans=1, num_classes=3, pools=(True,), scale=2.0, **parts)
    # Few values: where those of all tokens fire, a softmax over them is exactly at a threshold.
    enliven(model.double(), images(torch.float64), products=1.5)
    model(images(torch.float64))
    recorder.assert_lively()
    recorder.stop(model)
    return model.to(dtype)


def images(dtype):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(B, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)


def both(model, x):
    """Counts of every step, and logits."""
    counts = model.forward_features_steps(x)
    return counts, model.forward_head(counts.mean(0))


@every_combination
def test_compiled_equals_eager_in_float64(neuron, attention):
    model, x = network(neuron, attention, torch.float64), images(torch.float64)
    with torch.no_grad():
        counts, logits = both(model, x)
        found, found_logits = torch.compile(both, fullgraph=True)(model, x)
    assert counts.std() > 0.5
    assert torch.equal(found, counts)
    torch.testing.assert_close(found_logits, logits, rtol=1e-12, atol=1e-12)


@every_combination
def test_compiled_float32_flips_few_spikes(neuron, attention, request):
    model, x = network(neuron, attention, torch.float32), images(torch.float32)
    with torch.no_grad():
        counts, _ = both(model, x)
        found, _ = torch.compile(both, fullgraph=True)(model, x)
    rate = (found != counts).double().mean().item()
    request.node.user_properties.append(("flip_rate", rate))
    print(f"{neuron}-{attention}: {rate:.2e} of {counts.numel()} counts differ")  # noqa: T201
    assert rate <= FLIPS


def test_a_compiled_training_step_equals_an_eager_one():
    gradients = []
    for compiled in (False, True):
        model = network("plif", "ssa", torch.float64).train()
        step = torch.compile(model, fullgraph=True) if compiled else model
        step(images(torch.float64)).square().sum().backward()
        gradients.append(
            {name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers())
        )
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-9, atol=1e-11)


@every_combination
def test_exported_equals_eager(neuron, attention):
    model, x = network(neuron, attention, torch.float32), images(torch.float32)
    with torch.no_grad():
        program = torch.export.export(model, (x,))
        assert torch.equal(program.module()(x), model(x))


def test_exported_networks_keep_their_operations():
    model, x = network("lif", "ssa", torch.float32), images(torch.float32)
    program = torch.export.export(model, (x,))
    names = [str(node.target) for node in program.graph.nodes]
    # One stage, position; of the block: Q K V, product, projection, and two of the MLP.
    assert names.count("spikformer.lif.default") == 7
    assert names.count("spikformer.spike_attention.default") == 1


def test_exported_networks_take_any_batch():
    model = network("lif", "ssa", torch.float32)
    x = images(torch.float32)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        for samples in (2, 5, B):
            found = program.module()(x[:samples])
            assert torch.equal(found, model(x[:samples]))
