"""Maps that the network never computed are those of its spikes."""

import math

import pytest
import torch
from helpers.networks import tiny

from spikformer.errors import ConfigError
from spikformer.nn.attention import max_over_tokens, split_heads
from spikformer.probe import attention_maps, entropy, locality, rollout, shares

IMAGES = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("qk_pool", [None, 3])
def test_maps_are_the_explicit_product_to_the_bit(qk_pool):
    model = tiny(qk_pool=qk_pool)
    seen = {}
    for name, module in model.named_modules():
        if name.endswith("qkv"):
            module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out}))
    maps = attention_maps(model, IMAGES)
    assert len(maps) == len(model.blocks)
    for name, found in maps.items():
        q, k, _ = split_heads(seen[f"{name}.qkv"], 2)
        if qk_pool:
            q, k = (max_over_tokens(x, qk_pool) for x in (q, k))
        explicit = torch.zeros_like(found)
        for n in range(q.shape[-2]):
            for m in range(k.shape[-2]):
                explicit[..., n, m] = (q[..., n, :] * k[..., m, :]).sum(-1)
        assert found.sum() > 0
        assert torch.equal(found, explicit)


def test_maps_of_frames_have_their_steps():
    model = tiny()
    frames = IMAGES[:, None].expand(-1, 3, -1, -1, -1)
    for found in attention_maps(model, frames).values():
        tokens = found.shape[-1]
        assert found.shape == (3, 2, 2, tokens, tokens)


def test_a_float_map_is_what_weighs_the_values():
    model = tiny(attention="vsa")
    for found in attention_maps(model, IMAGES).values():
        assert torch.allclose(found.sum(-1), torch.ones_like(found.sum(-1)))


def test_watching_changes_nothing_and_ends():
    model = tiny()
    before = model(IMAGES)
    attention_maps(model, IMAGES)
    assert torch.equal(model(IMAGES), before)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_network_without_attention_is_refused():
    with pytest.raises(ConfigError, match="has no attention that maps can be made of"):
        attention_maps(torch.nn.Linear(2, 2), IMAGES)


def test_shares_of_a_silent_query_are_alike():
    found = shares(torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    assert found.tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_negative_maps_have_no_shares():
    for what in (shares, entropy, lambda x: locality(x, (1, 2))):
        with pytest.raises(ConfigError, match="negative somewhere has no shares"):
            what(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))


def test_entropy_is_1_of_uniform_and_0_of_one_token():
    uniform, single = torch.ones(4, 4), torch.eye(4)
    assert entropy(uniform).item() == pytest.approx(1)
    assert entropy(single).item() == 0
    halves = torch.tensor([[1.0, 1, 0, 0]]).expand(4, 4)
    assert entropy(halves).item() == pytest.approx(math.log(2) / math.log(4))


def test_locality_is_1_of_uniform_and_0_of_oneself():
    assert locality(torch.ones(6, 6), (2, 3)).item() == pytest.approx(1)
    assert locality(torch.eye(6), (2, 3)).item() == 0
    # each of two tokens attends to the other, one place away; uniform is half a place
    assert locality(torch.tensor([[0.0, 1], [1, 0]]), (1, 2)).item() == pytest.approx(2)
    with pytest.raises(ConfigError, match="a grid of 2 x 2 has no 6 tokens"):
        locality(torch.ones(6, 6), (2, 2))


def test_a_rollout_multiplies_what_the_residual_halves():
    one = torch.tensor([[0.0, 1], [1, 0]]).expand(1, 1, 2, 2, 2)
    two = torch.tensor([[1.0, 0], [1, 0]]).expand(1, 1, 2, 2, 2)
    flow = rollout({"a": one, "b": two})[0, 0]
    # block a: [[.5 .5] [.5 .5]]; block b: [[1 0] [.5 .5]]
    assert flow.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert (
        rollout(attention_maps(tiny(), IMAGES))
        .sum(-1)
        .allclose(torch.ones(4, 2, 1, dtype=torch.float64))
    )
