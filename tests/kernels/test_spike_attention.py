import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from spikformer.errors import ConfigError
from spikformer.kernels import spike_attention
from spikformer.kernels.spike_attention import reference

operation = torch.ops.spikformer.spike_attention.default
backward = torch.ops.spikformer.spike_attention_backward.default
SHAPES = [(2, 3, 50, 8), (2, 3, 8, 50), (4, 4), (1, 1, 1), (3, 2, 1, 7, 5)]
"""More tokens than width, fewer, as many; one of each; odd."""


def spikes(*shape, dtype=torch.float32, rate=0.4):
    return (torch.rand(shape) < rate).to(dtype)


def test_by_hand():
    q = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    k = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    v = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # q k^T: the first query meets the first key once; the second both keys, twice and once.
    # [[1, 0], [2, 1]] v = [[1, 0], [2 + 1, 1]]
    assert spike_attention(q, k, v).tolist() == [[1, 0], [3, 1]]


def test_heads_and_steps_do_not_meet():
    q, k, v = spikes(3, 4, 2, 6, 5, 8).unbind()
    together = spike_attention(q, k, v)
    for index in [(0, 0, 0), (3, 1, 5), (2, 0, 1)]:
        assert torch.equal(together[index], spike_attention(q[index], k[index], v[index]))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**16))
def test_both_orders_of_multiplication_agree_to_the_bit(tokens, width, seed):
    torch.manual_seed(seed)
    q, k, v = spikes(3, 2, tokens, width).unbind()
    counts = spike_attention(q, k, v)
    assert torch.equal(counts, (q @ k.mT) @ v)
    assert torch.equal(counts, q @ (k.mT @ v))


@pytest.mark.parametrize(("tokens", "width", "first"), [(9, 8, True), (8, 8, False), (7, 8, False)])
def test_the_order_is_the_cheaper_one(tokens, width, first):
    # 2 N d^2 products against 2 N^2 d
    assert reference.keys_first(torch.empty(tokens, width)) is first


@pytest.mark.parametrize(
    ("dtype", "tokens", "width"),
    # Where all fire, every count is N d: 273 and 2151 lie between numbers of the half types.
    [
        (torch.bfloat16, 13, 21),
        (torch.bfloat16, 21, 13),
        (torch.float16, 9, 239),
        (torch.float16, 239, 9),
    ],
)
def test_counts_of_half_types_are_exact(dtype, tokens, width):
    ones = torch.ones(3, 1, tokens, width, dtype=dtype).unbind()
    counts = spike_attention(*ones)
    assert counts.dtype == torch.float32
    assert (counts == tokens * width).all()
    assert (counts.to(dtype).double() != tokens * width).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_types_are_kept(dtype):
    assert spike_attention(*spikes(3, 1, 3, 4, dtype=dtype).unbind()).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_neither_counts_nor_types(dtype):
    q, k, v = torch.ones(3, 2, 21, 13, dtype=dtype).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        found = spike_attention(q, k, v)
    assert found.dtype == torch.float32
    assert torch.equal(found, spike_attention(q, k, v))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_the_derivatives(shape):
    q, k, v = torch.randn(3, *shape, dtype=torch.float64).unbind()
    inputs = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(spike_attention, inputs)


def test_gradients_by_hand():
    # One token, one channel: y = q k v.
    q, k, v = (torch.tensor([[x]], requires_grad=True) for x in (1.0, 0.0, 1.0))
    spike_attention(q, k, v).backward()
    assert [x.grad.item() for x in (q, k, v)] == [0, 1, 0]


def test_gradients_of_half_types_have_their_type_and_are_rounded_once():
    shape = (2, 21, 13)
    inputs = spikes(3, *shape)
    grad = torch.randn(shape)
    found, expected = [], []
    for results, dtype in ((found, torch.bfloat16), (expected, torch.float32)):
        q, k, v = (x.to(dtype).requires_grad_() for x in inputs)
        spike_attention(q, k, v).backward(grad)
        results += [x.grad for x in (q, k, v)]
    assert all(x.dtype == torch.bfloat16 for x in found)
    assert all(torch.equal(x, y.bfloat16()) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fakes_have_the_strides_and_types_of_results(shape):
    q, k, v = spikes(3, *shape[:-2], shape[-1], shape[-2]).mT.unbind()
    grad = torch.randn(shape)
    real = [operation(q, k, v), *backward(grad, q, k, v)]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        q, k, v, grad = (mode.from_tensor(x) for x in (q, k, v, grad))
        fake = [operation(q, k, v), *backward(grad, q, k, v)]
    for result, twin in zip(real, fake, strict=True):
        assert (result.shape, result.dtype) == (twin.shape, twin.dtype)
        assert result.stride() == twin.stride()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_it_is_a_well_behaved_operation(shape):
    q, k, v = spikes(3, *shape).unbind()
    torch.library.opcheck(backward, (torch.randn(shape), q, k, v))
    torch.library.opcheck(operation, tuple(x.clone().requires_grad_() for x in (q, k, v)))


@pytest.mark.parametrize(
    ("q", "k"),
    [
        (torch.ones(3, 4), torch.ones(3, 5)),
        (torch.ones(3, 4), torch.ones(3, 4).double()),
        (torch.ones(4), torch.ones(4)),
    ],
)
def test_inputs_that_do_not_match_are_refused(q, k):
    with pytest.raises(
        ConfigError, match=r"q, k and v must share one shape \[..., N, d\] and type"
    ):
        inspect.unwrap(spike_attention)(q, k, q)
