"""Operations under `torch.compile` and `torch.export`."""

import pytest
import torch
from helpers.neurons import NEURONS, layouts, near_threshold

from spikformer.kernels import spike_attention

pytestmark = pytest.mark.compiled
LAYOUTS = layouts()


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()


def assert_gradients_agree(found, expected):
    # The compiler's exponential and the order of its sums differ by roundings of float32.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def train(run, current, v0):
    """Results and gradients of a neuron's run."""
    current, v0 = current.detach().requires_grad_(), v0.detach().requires_grad_()
    spikes, v = run(current, v0)
    torch.manual_seed(1)
    loss = (spikes * torch.randn_like(spikes)).sum() + (v * torch.randn_like(v)).sum()
    return (spikes, v), torch.autograd.grad(loss, (current, v0))


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "one step repeated, channels last"])
def test_compiled_equals_eager(neuron, layout):
    current = LAYOUTS[layout]
    v0 = torch.randn_like(current[0])
    eager, grads_eager = train(neuron.run, current, v0)
    compiled, grads = train(torch.compile(neuron.run, fullgraph=True), current, v0)
    for found, expected in zip(compiled, eager, strict=True):
        assert torch.equal(found, expected)
        assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())
    assert_gradients_agree(grads, grads_eager)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_every_reset_compiles_to_the_same_spikes(neuron):
    # Random currents, and those whose first potential lies within ulps of the threshold.
    # A half current comes from outside: inside, the compiler would leave out its rounding.
    current = torch.cat([torch.randn(3, 240) * 2, near_threshold(3)], dim=1)
    half = current.bfloat16()

    def run(current, half):
        resets = [{"v_reset": 0.0}, {"v_reset": -0.4}, {"v_reset": None}]
        return [neuron.run(x, **reset) for x in (current, half) for reset in resets]

    compiled = torch.compile(run, fullgraph=True)(current, half)
    for found, expected in zip(compiled, run(current, half), strict=True):
        assert [x.dtype for x in found] == [x.dtype for x in expected]
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(2, 13, 4), (2, 4, 13)], ids=["keys first", "queries first"])
def test_compiled_attention_equals_eager(shape):
    inputs = [(torch.rand(shape) < 0.4).float() for _ in range(3)]
    grad = torch.randn(shape)
    results = []
    for run in (spike_attention, torch.compile(spike_attention, fullgraph=True)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        counts = run(*leaves)
        results.append((counts, torch.autograd.grad(counts, leaves, grad)))
    (eager, grads_eager), (compiled, grads) = results
    assert torch.equal(compiled, eager)
    assert_gradients_agree(grads, grads_eager)


class Module(torch.nn.Module):
    """What `torch.export` takes: a function in a module."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def forward(self, *inputs):
        return self.run(*inputs)


def nodes(program, operation):
    overload = getattr(torch.ops.spikformer, operation).default
    return [node for node in program.graph.nodes if node.target is overload]


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_export_keeps_a_neuron_as_one_node(neuron):
    current = LAYOUTS["contiguous"]
    program = torch.export.export(Module(neuron.run), (current,))
    assert len(nodes(program, neuron.operation)) == 1
    found, expected = program.module()(current), neuron.run(current)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_export_keeps_attention_as_one_node():
    inputs = tuple((torch.rand(2, 7, 4) < 0.4).float() for _ in range(3))
    program = torch.export.export(Module(spike_attention), inputs)
    assert len(nodes(program, "spike_attention")) == 1
    assert torch.equal(program.module()(*inputs), spike_attention(*inputs))
