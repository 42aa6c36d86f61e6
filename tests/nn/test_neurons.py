import pytest
import torch

from spikformer import kernels
from spikformer.errors import ConfigError
from spikformer.nn import IF, LIF, NEURONS, PLIF, NeuronFactory

OPTIONS = {
    "threshold": 0.5,
    "v_reset": -0.25,
    "detach_reset": False,
    "surrogate": "atan",
    "alpha": 3.0,
}


def outcome(run, *parameters):
    """Spikes, the last potential, and every gradient."""
    torch.manual_seed(1)
    current = (torch.randn(5, 40) * 2).requires_grad_()
    spikes, v = run(current)
    loss = (spikes * torch.randn(5, 40)).sum() + v.sum()
    return spikes, v, *torch.autograd.grad(loss, (current, *parameters))


def assert_same(found, expected):
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["usual", "all set"])
def test_modules_are_their_operations(options):
    assert_same(outcome(IF(**options).integrate), outcome(lambda x: kernels.if_(x, **options)))
    assert_same(
        outcome(LIF(tau=1.7, **options).integrate),
        outcome(lambda x: kernels.lif(x, tau=1.7, **options)),
    )
    plif = PLIF(tau=1.7, **options)
    assert_same(
        outcome(plif.integrate, plif.weight),
        outcome(lambda x: kernels.plif(x, plif.weight, **options), plif.weight),
    )


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("neuron", [IF, LIF, PLIF])
def test_every_option_has_an_effect(neuron, option):
    usual, changed = (
        outcome(neuron(**options).integrate) for options in ({}, {option: OPTIONS[option]})
    )
    assert not all(torch.equal(*pair) for pair in zip(usual, changed, strict=True))


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_keep_no_state(name):
    neuron = NEURONS[name](threshold=1.0)
    current = torch.randn(5, 40) * 2
    first, second = neuron(current), neuron(current)
    assert torch.equal(first, second)
    assert first.any()
    assert not list(neuron.buffers())


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_continue_from_a_potential(name):
    neuron = NEURONS[name](threshold=1.0)
    current = torch.randn(6, 40) * 2
    first, v = neuron.integrate(current[:2])
    second, _ = neuron.integrate(current[2:], v)
    assert torch.equal(neuron(current), torch.cat([first, second]))


@pytest.mark.parametrize("tau", [1.5, 2.0, 20.0])
def test_a_parametric_neuron_starts_at_its_time_constant(tau):
    weight = PLIF(tau=tau).weight
    assert weight.shape == ()
    assert 1 / torch.sigmoid(weight).item() == pytest.approx(tau, rel=1e-6)


@pytest.mark.parametrize("name", NEURONS)
def test_registered_neurons_are_factories(name):
    assert isinstance(NEURONS[name], NeuronFactory)
    assert NEURONS[name](threshold=0.5).options["threshold"] == 0.5


def test_a_neuron_prints_what_it_is():
    assert str(LIF()) == (
        "LIF(tau=2.0, threshold=1.0, v_reset=0.0, detach_reset=True, surrogate=sigmoid, alpha=4.0)"
    )
    assert str(IF(v_reset=None, surrogate="atan")) == (
        "IF(threshold=1.0, v_reset=None, detach_reset=True, surrogate=atan, alpha=2.0)"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LIF(tau=0.9), "tau is a number of steps and must be >= 1, got 0.9"),
        (lambda: PLIF(tau=1.0), "tau is a number of steps and must be > 1 to learn, got 1.0"),
        (lambda: IF(v_reset=1.0), "v_reset must be below the threshold 1.0, got 1.0"),
        (lambda: IF(threshold=-1.0), "v_reset must be below the threshold -1.0, got 0.0"),
        (lambda: LIF(surrogate="sigmod"), r"unknown surrogate 'sigmod'; did you mean sigmoid\?"),
        (lambda: LIF(alpha=-4.0), "alpha must be positive, got -4.0"),
    ],
)
def test_options_that_make_no_sense_are_refused_when_the_neuron_is_built(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
