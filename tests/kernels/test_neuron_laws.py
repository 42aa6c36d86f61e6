"""What holds for every neuron: laws, and equality with the textbook of `helpers.neurons`."""

import inspect

import pytest
import torch
from helpers.neurons import NEURONS, layouts, near_threshold, plif
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from spikformer import kernels
from spikformer.errors import ConfigError
from spikformer.kernels import OPERATIONS
from spikformer.kernels.if_ import reference as if_reference
from spikformer.kernels.lif import reference as lif_reference
from spikformer.kernels.plif import reference as plif_reference
from spikformer.kernels.surrogate import DEFAULT_ALPHA, DERIVATIVES

REFERENCES = {"if_": if_reference, "lif": lif_reference, "plif": plif_reference}
RESETS = [0.0, -0.4, None]
LAYOUTS = layouts()

every_neuron = pytest.mark.parametrize("neuron", NEURONS, ids=str)
every_reset = pytest.mark.parametrize("v_reset", RESETS, ids=str)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
seeds = st.integers(0, 2**16)


def currents(seed=0, shape=(6, 3, 5), dtype=torch.float32):
    """Strong enough that about a third of all neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype) * 2 + 0.5


def both(operation):
    """An operation and its adjoint."""
    twins = operation, f"{operation.rstrip('_')}_backward"
    return tuple(getattr(torch.ops.spikformer, name).default for name in twins)


def firing(v_reset):
    return tuple(kernels.check_firing(1.0, v_reset, True, "sigmoid", None))


def test_every_operation_has_its_tests():
    assert {neuron.operation for neuron in NEURONS} | {"spike_attention"} == set(OPERATIONS)
    assert set(REFERENCES) | {"spike_attention"} == set(OPERATIONS)


@every_neuron
@every_reset
@given(seed=seeds)
def test_spikes_are_zero_or_one(neuron, v_reset, seed):
    spikes, _ = neuron.run(currents(seed), v_reset=v_reset)
    assert set(spikes.unique().tolist()) == {0, 1}


@every_neuron
@every_reset
@given(seed=seeds, cut=st.integers(1, 5))
def test_the_past_never_sees_the_future(neuron, v_reset, seed, cut):
    current = currents(seed)
    changed = torch.cat([current[:cut], current[cut:] + 10])
    spikes, others = (neuron.run(x, v_reset=v_reset)[0] for x in (current, changed))
    assert torch.equal(spikes[:cut], others[:cut])
    assert not torch.equal(spikes[cut:], others[cut:])


@every_neuron
@every_reset
@given(seed=seeds, sample=st.integers(0, 2))
def test_neurons_do_not_see_each_other(neuron, v_reset, seed, sample):
    current = currents(seed)
    together = neuron.run(current, v_reset=v_reset)
    alone = neuron.run(current[:, sample], v_reset=v_reset)
    assert torch.equal(together[0][:, sample], alone[0])
    assert torch.equal(together[1][sample], alone[1])


@every_neuron
@every_reset
@given(seed=seeds, cut=st.integers(1, 5))
def test_two_chunks_equal_one_run_to_the_bit(neuron, v_reset, seed, cut):
    current = currents(seed)
    spikes, v = neuron.run(current, v_reset=v_reset)
    first, between = neuron.run(current[:cut], v_reset=v_reset)
    second, v_end = neuron.run(current[cut:], between, v_reset=v_reset)
    assert torch.equal(spikes, torch.cat([first, second]))
    assert torch.equal(v, v_end)


@every_neuron
@every_reset
def test_two_chunks_have_the_gradients_of_one_run(neuron, v_reset):
    # The same products and sums in the same order: to the bit.
    grads = []
    for cut in (6, 2):
        current = currents(dtype=torch.float64).requires_grad_()
        first, v = neuron.run(current[:cut], v_reset=v_reset)
        parts = [first]
        if cut < 6:
            second, v = neuron.run(current[cut:], v, v_reset=v_reset)
            parts.append(second)
        spikes = torch.cat(parts)
        (spikes * torch.linspace(-1, 2, spikes.numel()).view_as(spikes)).sum().backward(
            retain_graph=True
        )
        v.sum().backward()
        grads.append(current.grad)
    torch.testing.assert_close(*grads, rtol=1e-14, atol=1e-15)  # `.grad` adds up two passes


@every_neuron
@every_reset
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("surrogate", DERIVATIVES)
def test_gradients_equal_autograd_of_the_textbook(neuron, v_reset, detach_reset, surrogate):
    options = {
        "threshold": 0.8,
        "v_reset": v_reset,
        "detach_reset": detach_reset,
        "surrogate": surrogate,
        "alpha": 1.3,
    }
    results = []
    weight = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
    neuron = plif(weight) if neuron.operation == "plif" else neuron
    for run in (neuron.run, neuron.textbook):
        torch.manual_seed(0)
        current = currents(dtype=torch.float64).requires_grad_()
        v0 = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
        spikes, v = run(current, v0, **options)
        loss = (spikes * torch.randn_like(spikes)).sum() + (v * torch.randn_like(v)).sum()
        inputs = [current, v0, *([weight] if neuron.operation == "plif" else [])]
        results.append([spikes, v, *torch.autograd.grad(loss, inputs)])
    for found, expected in zip(*results, strict=True):
        # The same formula, differently associated: a few roundings of float64.
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@every_neuron
@pytest.mark.parametrize("wanted", ["spikes", "potential"])
def test_either_result_may_go_unused(neuron, wanted):
    grads = []
    for run in (neuron.run, neuron.textbook):
        current = currents(dtype=torch.float64).requires_grad_()
        spikes, v = run(current)
        (spikes if wanted == "spikes" else v).sum().backward()
        grads.append(current.grad)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)


@every_neuron
@pytest.mark.parametrize("surrogate", DERIVATIVES)
def test_surrogate_and_steepness_change_gradients_only(neuron, surrogate):
    results = {}
    for alpha in (None, DEFAULT_ALPHA[surrogate], 0.7):
        current = currents().requires_grad_()
        spikes, _ = neuron.run(current, surrogate=surrogate, alpha=alpha)
        spikes.sum().backward()
        results[alpha] = spikes, current.grad
    usual = results[None]
    assert all(torch.equal(spikes, usual[0]) for spikes, _ in results.values())
    assert torch.equal(results[DEFAULT_ALPHA[surrogate]][1], usual[1])
    assert not torch.equal(results[0.7][1], usual[1])


# With p bits of precision, 1 - 2^-p is the last number below 1. Half of it away, 1 - 2^-(p + 1)
# is no number of the half type: it would round to 1 and fire. Each case gets there in two steps.
HALF_TYPES = [(torch.bfloat16, 8), (torch.float16, 11)]


@pytest.mark.parametrize(("dtype", "bits"), HALF_TYPES, ids=str)
@pytest.mark.parametrize("name", ["if_", "lif_2.0", "plif"])
def test_half_types_integrate_in_float32(name, dtype, bits):
    neuron = {str(neuron): neuron for neuron in [*NEURONS, plif(torch.tensor(0.0))]}[name]
    if name == "if_":  # u = 1 - 2^-p, + 2^-(p + 1)
        current = torch.tensor([1 - 2.0**-bits, 2.0 ** -(bits + 1)])
    else:  # u = x/2 = 1 - 2^-p, + (1 - (1 - 2^-p))/2
        current = torch.tensor([2 - 2.0 ** (1 - bits), 1.0])
    half = current.to(dtype)
    assert torch.equal(half.float(), current)
    v = torch.zeros((), dtype=dtype)
    for x in half:
        v = neuron.charge(v, x, 0.0).to(dtype)
    assert v >= 1, "integrating in the half type itself would fire"

    spikes, v = neuron.run(half)
    assert spikes.tolist() == [0, 0]
    assert v.item() == 1 - 2.0 ** -(bits + 1)


@every_neuron
@every_reset
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_spikes_have_the_type_of_the_current_and_potentials_that_of_the_membrane(
    neuron, v_reset, dtype
):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    current = currents().to(dtype).requires_grad_()
    v0 = torch.zeros(3, 5, dtype=wide, requires_grad=True)
    spikes, v = neuron.run(current, v0, v_reset=v_reset)
    (spikes.sum() + v.sum()).backward()
    assert (spikes.dtype, v.dtype) == (dtype, wide)
    assert (current.grad.dtype, v0.grad.dtype) == (dtype, wide)


@every_neuron
@every_reset
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_spikes_of_half_currents_are_those_of_the_same_currents_in_float32(neuron, v_reset, dtype):
    current = currents().to(dtype)
    found, v = neuron.run(current, v_reset=v_reset)
    expected, v_expected = neuron.run(current.float(), v_reset=v_reset)
    assert torch.equal(found.float(), expected)
    assert torch.equal(v, v_expected)


@every_neuron
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_neither_results_nor_types(neuron, dtype):
    results = []
    for enabled in (False, True):
        current = currents().to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            spikes, v = neuron.run(current)
            loss = spikes.sum() + v.sum()
        loss.backward()
        results.append((spikes, v, current.grad))
    for plain, under_autocast in zip(*results, strict=True):
        assert plain.dtype == under_autocast.dtype
        assert torch.equal(plain, under_autocast)


@every_neuron
@every_reset
@every_layout
def test_eager_equals_the_reference_to_the_bit(neuron, v_reset, layout):
    current = LAYOUTS[layout]
    forward, _ = both(neuron.operation)
    arguments = neuron.arguments(current, None, *firing(v_reset))
    for found, expected in zip(
        forward(*arguments), REFERENCES[neuron.operation].forward(*arguments), strict=True
    ):
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()


@every_neuron
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eager_equals_the_reference_within_ulps_of_the_threshold(neuron, v_reset, dtype):
    current = near_threshold(3, dtype)
    forward, _ = both(neuron.operation)
    arguments = neuron.arguments(current, None, *firing(v_reset))
    found, expected = forward(*arguments), REFERENCES[neuron.operation].forward(*arguments)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_lif_parts_its_neighbours_at_the_threshold():
    # One step: 8 columns below, the one at the threshold, 8 above.
    spikes, _ = kernels.lif(near_threshold(1))
    assert spikes.flatten().tolist() == [0] * 8 + [1] * 9


@every_neuron
@every_layout
def test_results_do_not_depend_on_the_order_of_memory(neuron, layout):
    current = LAYOUTS[layout]
    results = []
    for x in (current, current.contiguous()):
        leaf = x.detach().requires_grad_()
        spikes, v = neuron.run(leaf)
        (spikes.sum() + 2 * v.sum()).backward()
        results.append((spikes, v, leaf.grad))
    (spikes, v, grad), (spikes_expected, v_expected, grad_expected) = results
    assert torch.equal(spikes, spikes_expected)
    assert torch.equal(v, v_expected)
    # The surrogate's exponential differs by an ulp between vectors and what is left over of them.
    torch.testing.assert_close(grad, grad_expected, rtol=1e-5, atol=1e-7)


@every_neuron
@every_layout
@pytest.mark.parametrize("start", ["at rest", "v0 like the current", "v0 contiguous"])
def test_fakes_have_the_strides_and_types_of_results(neuron, layout, start):
    current = LAYOUTS[layout]
    v0 = {
        "at rest": None,
        "v0 like the current": torch.zeros_like(current[0]),
        "v0 contiguous": torch.zeros(current.shape[1:]),
    }[start]
    forward, backward = both(neuron.operation)
    inputs = neuron.arguments(current, v0, *firing(0.0))
    real = forward(*inputs)
    real += backward(*(torch.randn_like(x) for x in real), *inputs)
    with FakeTensorMode() as mode:
        inputs = [mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in inputs]
        fake = forward(*inputs)
        fake += backward(*(torch.empty_like(x) for x in fake), *inputs)
    for result, twin in zip(real, fake, strict=True):
        assert (result.shape, result.dtype) == (twin.shape, twin.dtype)
        assert result.stride() == twin.stride()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@every_neuron
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "one step repeated"])
@pytest.mark.parametrize("starts", [False, True])
def test_it_is_a_well_behaved_operation(neuron, layout, starts):
    current = LAYOUTS[layout]
    v0 = torch.zeros(current.shape[1:]) if starts else None
    forward, backward = both(neuron.operation)
    inputs = neuron.arguments(current, v0, *firing(0.0))
    grads = tuple(torch.randn_like(x) for x in forward(*inputs))
    torch.library.opcheck(backward, (*grads, *inputs))
    leaves = [x.detach().requires_grad_() if isinstance(x, torch.Tensor) else x for x in inputs]
    torch.library.opcheck(forward, tuple(leaves))


@every_neuron
@pytest.mark.parametrize(
    ("current", "v0", "message"),
    [
        (torch.ones(0, 3), None, r"at least one step, got \[0, 3\]"),
        (torch.tensor(1.0), None, r"current must be \[T, ...\] with at least one step, got \[\]"),
        (torch.ones(2, 3, dtype=torch.int), None, "floating-point tensor, got torch.int32"),
        (torch.ones(2, 3), torch.ones(2), r"v0 must have the shape of one step, \[3\], got \[2\]"),
    ],
)
def test_currents_that_make_no_sense_are_refused(neuron, current, v0, message):
    # Without the shape hook's wrapper, which would complain first.
    unchecked = inspect.unwrap(getattr(kernels, neuron.operation))
    with pytest.raises(ConfigError, match=message):
        unchecked(current, *neuron.extra, v0)


@every_neuron
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"v_reset": 1.0}, r"v_reset must be below the threshold 1.0, got 1.0"),
        ({"threshold": 0.5, "v_reset": 0.7}, r"v_reset must be below the threshold 0.5, got 0.7"),
        ({"alpha": 0.0}, "alpha must be positive, got 0.0"),
        ({"surrogate": "atam"}, r"unknown surrogate 'atam'; did you mean atan\?"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(neuron, options, message):
    with pytest.raises(ConfigError, match=message):
        neuron.run(torch.ones(2, 3), **options)
