"""Each attention against its formula, written with loops over heads and tokens."""

import pytest
import torch
from helpers.networks import enliven
from hypothesis import given
from hypothesis import strategies as st

from spikformer import kernels
from spikformer.errors import ConfigError
from spikformer.nn import ATTENTIONS, LIF
from spikformer.nn.attention import max_over_tokens, merge_heads, split_heads

T, B, DIM, HEADS, ROWS, COLUMNS = 3, 2, 12, 3, 4, 5
WIDTH, TOKENS = DIM // HEADS, ROWS * COLUMNS


def counts():
    return torch.randint(3, (T, B, DIM, ROWS, COLUMNS)).double()


def lively(name, **options):
    options = {"scale": 0.5} | options
    module = ATTENTIONS[name](DIM, HEADS, neuron=LIF, **options).double()
    return enliven(module, counts())


def run(module, x):
    """What `module` returns, and the current that its neuron after the product sees."""
    seen = []
    hook = module.neuron.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        out = module(x)
    hook.remove()
    return out, seen[0]


def channels(qkv, part, head):
    """[T, B, N, d] of the queries (part 0), keys (1) or values (2) of one head."""
    first = part * DIM + head * WIDTH
    return qkv[:, :, first : first + WIDTH].flatten(3).mT


def by_loops(module, x, head_current):
    """The current after the product, by `head_current(q, k, v)` of each head."""
    with torch.no_grad():
        qkv = module.qkv(x)
        heads = [
            head_current(*(channels(qkv, part, head) for part in range(3))) for head in range(HEADS)
        ]
    return torch.cat(heads, -1).mT.unflatten(-1, (ROWS, COLUMNS))


def fire(current):
    return kernels.lif(current)[0]


def spiking_self_attention(scale):
    return lambda q, k, v: torch.einsum("tbnd,tbmd,tbme->tbne", q, k, v) * scale


def float_attention(attention_map, values=fire):
    return lambda q, k, v: attention_map(q, k) @ values(v)


FORMULAS = {
    "ssa": spiking_self_attention(0.5),
    "vsa": float_attention(lambda q, k: torch.softmax(q @ k.mT / WIDTH**0.5, -1)),
    "vsa_float": float_attention(
        lambda q, k: torch.softmax(q @ k.mT / WIDTH**0.5, -1), values=lambda v: v
    ),
    "identity": float_attention(lambda q, k: q @ k.mT * 0.5),
    "relu": float_attention(lambda q, k: q.clamp(min=0) @ k.clamp(min=0).mT * 0.5),
    "leaky_relu": float_attention(
        lambda q, k: torch.where(q > 0, q, q / 100) @ torch.where(k > 0, k, k / 100).mT * 0.5
    ),
}


def test_every_attention_has_its_formula():
    assert set(FORMULAS) == set(ATTENTIONS)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_current_after_the_product_is_the_formulas(name):
    module, x = lively(name), counts()
    _, current = run(module, x)
    expected = by_loops(module, x, FORMULAS[name])
    assert expected.std() > 0.1
    torch.testing.assert_close(current, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_neuron_after_the_product_has_half_the_threshold(name):
    module, x = lively(name), counts()
    out, current = run(module, x)
    spikes, _ = kernels.lif(current, threshold=0.5)
    assert 0.01 < spikes.mean() < 0.99
    assert torch.equal(out, module.proj(spikes))


def test_spiking_self_attention_adds_integers():
    # Counts times the scale: exact, whatever the order of the sums.
    module, x = lively("ssa", scale=0.125), counts()
    _, current = run(module, x)
    assert torch.equal(current, by_loops(module, x, spiking_self_attention(0.125)))
    assert torch.equal((current * 8).round(), current * 8)
    assert current.max() > 1


@pytest.mark.parametrize("name", sorted(set(ATTENTIONS) - {"vsa", "vsa_float"}))
def test_the_scale_scales(name):
    x = counts()
    module = lively(name, scale=0.5)
    _, current = run(module, x)
    module.scale = 0.25
    _, halved = run(module, x)
    assert current.any()
    assert torch.equal(halved, current / 2)


def test_a_learnable_scale_is_one_number_that_learns():
    module = lively("ssa", scale=0.25, learnable_scale=True)
    assert module.scale.shape == ()
    assert module.scale.item() == 0.25
    module(counts()).sum().backward()
    assert module.scale.grad.item() != 0
    assert not any("scale" in name for name, _ in lively("ssa").named_parameters())


@pytest.mark.parametrize("bias", [False, True])
def test_queries_keys_and_values_have_a_bias_on_demand(bias):
    module = lively("ssa", qkv_bias=bias)
    assert (module.qkv.conv.bias is not None) == bias
    assert module.proj.conv.bias is not None


@pytest.mark.parametrize("width", [1, 3, 5])
def test_pooled_queries_and_keys_take_the_largest_of_their_window(width):
    def windows(x):
        around = [
            x[:, :, max(0, n - width // 2) : n + width // 2 + 1].amax(2) for n in range(TOKENS)
        ]
        return torch.stack(around, 2)

    module, x = lively("ssa", qk_pool=width), counts()
    _, current = run(module, x)
    plain = spiking_self_attention(0.5)
    expected = by_loops(module, x, lambda q, k, v: plain(windows(q), windows(k), v))
    assert torch.equal(current, expected)
    assert torch.equal(current, by_loops(module, x, plain)) == (width == 1)


def test_a_pool_over_tokens_by_hand():
    tokens = torch.tensor([1.0, 0, 0, 0, 0, 1]).view(1, 1, 1, 6, 1)
    found = max_over_tokens(tokens, 3)
    assert found.flatten().tolist() == [1, 1, 0, 0, 1, 1]


@given(st.integers(1, 3), st.integers(2, 4), st.integers(1, 3), st.integers(1, 3))
def test_merging_undoes_splitting(heads, width, rows, columns):
    x = torch.randn(2, 2, 3 * heads * width, rows, columns)
    like = x[:, :, : heads * width]
    parts = [merge_heads(part.contiguous(), like) for part in split_heads(x, heads)]
    assert torch.equal(torch.cat(parts, 2), x)
    # Channels lie innermost in memory.
    assert all(part.movedim(2, -1).is_contiguous() for part in parts)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_width_that_heads_do_not_divide_is_refused(name):
    message = "dim must be a multiple of heads, got dim=10, heads=4"
    with pytest.raises(ConfigError, match=message):
        ATTENTIONS[name](10, 4, neuron=LIF, scale=0.125)


@pytest.mark.parametrize("width", [0, 2, -1])
def test_a_pool_without_a_middle_is_refused(width):
    with pytest.raises(ConfigError, match=f"qk_pool must be odd and positive, got {width}"):
        lively("ssa", qk_pool=width)


@pytest.mark.parametrize("option", [{"learnable_scale": True}, {"qk_pool": 3}], ids=str)
@pytest.mark.parametrize("name", sorted(set(ATTENTIONS) - {"ssa"}))
def test_what_only_spiking_self_attention_has_is_refused_elsewhere(name, option):
    with pytest.raises(ConfigError, match="learnable_scale and qk_pool belong to attention 'ssa'"):
        lively(name, **option)
