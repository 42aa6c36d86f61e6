"""What every registered neuron and attention must do, in a small network.

A new entry of `NEURONS` or `ATTENTIONS` is tested by being there.
"""

import pytest
import torch
from helpers.networks import COMBINATIONS, Recorder, enliven, layers, tiny

from spikformer.nn import ATTENTIONS, NEURONS, SpikingSelfAttention

T, B = 4, 3
every_combination = pytest.mark.parametrize(
    ("neuron", "attention"), COMBINATIONS, ids=["-".join(names) for names in COMBINATIONS]
)


def network(neuron, attention, **overrides):
    """A lively network and what its neurons did."""
    recorder = Recorder(neuron)
    return tiny(neuron=recorder, attention=attention, **overrides), recorder


def frames(steps=T, dtype=torch.float64):
    """Of 16 tokens: so many never fire all at once, where a softmax would be at a threshold."""
    return torch.rand(B, steps, 3, 16, 16, dtype=dtype)


def counts(model, x):
    with torch.no_grad():
        return model.forward_features_steps(x)


def causal(model):
    """Whether all parts say that they only look back."""
    return all(getattr(module, "causal", True) for module in model.modules())


@every_combination
def test_shapes(neuron, attention):
    model, _ = network(neuron, attention)
    x = frames(steps=3)
    assert counts(model, x).shape == (3, B, 16, 16)
    assert model.forward_features(x).shape == (B, 16, 16)
    assert model.forward_steps(x).shape == (3, B, 5)
    assert model(x).shape == (B, 5)
    assert model(x[:, 0]).shape == (B, 5)
    assert model(x[:1, :1]).shape == (1, 5)


@every_combination
def test_neurons_return_spikes(neuron, attention):
    model, recorder = network(neuron, attention)
    model(frames())
    recorder.assert_lively()
    for spikes in recorder.spikes:
        assert set(spikes.unique().tolist()) == {0, 1}


@every_combination
def test_every_parameter_gets_a_gradient(neuron, attention):
    model, _ = network(neuron, attention)
    model.train()(frames()).square().sum().backward()
    normed = {f"{name}.conv.bias" for name, _ in layers(model)}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name not in normed:  # a norm takes away what a bias in front of it adds
            assert parameter.grad.abs().max() > 1e-9, name


@every_combination
@pytest.mark.parametrize("static", [True, False])
def test_neighbours_of_a_sample_do_not_matter_to_the_bit(neuron, attention, static):
    model, _ = network(neuron, attention)
    model = model.float()
    x = frames(dtype=torch.float32)
    x = x[:, 0] if static else x
    others = torch.rand_like(x)
    others[1] = x[1]
    assert torch.equal(counts(model, x)[:, 1], counts(model, others)[:, 1])
    assert torch.equal(model(x)[1], model(others)[1])
    assert not torch.equal(model(x), model(others))


@every_combination
def test_a_sample_alone_equals_itself_in_a_batch(neuron, attention):
    # Shapes differ, so sums may round differently: float64, where no spike is that close.
    model, _ = network(neuron, attention)
    x = frames()
    together = counts(model, x)
    for sample in range(B):
        assert torch.equal(counts(model, x[sample : sample + 1])[:, 0], together[:, sample])
        torch.testing.assert_close(model(x[sample : sample + 1])[0], model(x)[sample])


@every_combination
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_first_steps_of_a_long_run_equal_a_short_run(neuron, attention, steps):
    model, _ = network(neuron, attention)
    x = frames()
    same = torch.equal(counts(model, x)[:steps], counts(model, x[:, :steps]))
    assert same == causal(model)


class LooksAhead(SpikingSelfAttention):
    """Reads time backwards, and says so: the test above can tell."""

    causal = False

    def forward(self, counts):
        return super().forward(counts.flip(0)).flip(0)


def test_a_part_that_looks_ahead_is_told_from_those_that_do_not():
    model, _ = network("lif", LooksAhead)
    x = frames()
    assert not causal(model)
    assert not torch.equal(counts(model, x)[:2], counts(model, x[:, :2]))


@every_combination
def test_models_keep_nothing_between_calls(neuron, attention):
    model, _ = network(neuron, attention)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = frames()
    first = model(x)
    model(torch.rand_like(x))
    assert torch.equal(model(x), first)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_combination
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_under_autocast_has_finite_gradients(neuron, attention, dtype):
    model, _ = network(neuron, attention)
    model = model.float().train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(frames(dtype=dtype))
    assert logits.dtype == torch.bfloat16
    logits.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("shape", [(4,), (4, 7), (1, 2, 3), (5, 2, 3, 4, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_neurons_take_currents_of_any_shape_and_type(name, shape, dtype):
    neuron = NEURONS[name](threshold=1.0)
    spikes = neuron(torch.randn(shape).to(dtype) * 3)
    assert (spikes.shape, spikes.dtype) == (shape, dtype)
    assert set(spikes.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("name", NEURONS)
def test_a_higher_threshold_lets_fewer_spikes_through(name):
    current = torch.rand(6, 500) * 3
    rates = [NEURONS[name](threshold=threshold)(current).mean() for threshold in (0.5, 1.0, 2.0)]
    assert rates[0] > rates[1] > rates[2] > 0


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_returns_spikes_of_its_inputs_shape(name):
    attention = ATTENTIONS[name](
        12,
        3,
        neuron=NEURONS["lif"],
        scale=1.0,
        learnable_scale=False,
        qkv_bias=True,
        qk_pool=None,
    )
    counts = torch.randint(3, (2, 3, 12, 3, 5)).float()
    spikes = enliven(attention, counts)(counts)
    assert spikes.shape == counts.shape
    assert set(spikes.unique().tolist()) == {0, 1}
