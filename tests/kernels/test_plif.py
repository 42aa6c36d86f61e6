"""Spikes and gradients of the parametric LIF by hand."""

import inspect
import math

import pytest
import torch

from spikformer.errors import ConfigError
from spikformer.kernels import lif, plif


def number(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_a_weight_of_zero_is_a_time_constant_of_two():
    # sigma(0) = 1/2: u = 0.75, 1.125 (spike), 0.75, 1.125 (spike)
    spikes, v = plif(torch.full((4,), 1.5), torch.tensor(0.0))
    assert (spikes.tolist(), v.item()) == ([0, 1, 0, 1], 0.0)


def test_a_weight_of_minus_log_three_is_a_time_constant_of_four():
    # sigma(-ln 3) = 1/4: u = 1, 1.75, 2.3125 (spike above 2)
    weight = torch.tensor(-math.log(3), dtype=torch.float64)
    spikes, _ = plif(torch.full((3,), 4.0, dtype=torch.float64), weight, threshold=2.0)
    assert spikes.tolist() == [0, 0, 1]


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
def test_with_the_weight_of_its_time_constant_it_is_lif(v_reset):
    # Halving is exact, so both ways of writing it agree to the bit.
    current = torch.randn(6, 50) * 2
    found = plif(current, torch.tensor(0.0), v_reset=v_reset)
    expected = lif(current, tau=2.0, v_reset=v_reset)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_gradients_by_hand():
    # Rate r = sigma(0) = 1/2; x = 1.5, 1.5: u = 0.75 (silent), 1.125 (spike), slopes 1.
    # The loss is s1 + 2 s2 + 4 v. As for LIF, du2 = 2, dv1 = 1, du1 = 2.
    # dr = du1 (x1 - v0) + du2 (x2 - v1) = 2 * 1.5 + 2 * 0.75 = 4.5; dw = dr r (1 - r) = 1.125
    weight, v0 = number(0.0), number(0.0)
    current = torch.full((2,), 1.5, dtype=torch.float64, requires_grad=True)
    spikes, v = plif(current, weight, v0, surrogate="rectangle", alpha=1.0)
    (spikes[0] + 2 * spikes[1] + 4 * v).backward()
    assert current.grad.tolist() == [1, 1]
    assert v0.grad.item() == 1
    assert weight.grad.item() == 1.125


def test_the_weight_gathers_the_gradients_of_the_whole_layer():
    # Two silent neurons, loss v: du = 1, dr = x - v0 = 1 and 0.5; dw = 1.5 / 4.
    weight = number(0.0)
    _, v = plif(torch.tensor([[1.0, 0.5]], dtype=torch.float64), weight)
    v.sum().backward()
    assert weight.grad.item() == 0.375


def test_the_weight_drives_towards_rest_not_towards_zero():
    # Rest -0.5: u = -0.5 + r (x - 0) with x = 1: u = 0; dr = x - (v0 - rest) = 1; dw = 1/4.
    weight = number(0.0)
    _, v = plif(torch.tensor([1.0], dtype=torch.float64), weight, v_reset=-0.5)
    v.sum().backward()
    assert (v.item(), weight.grad.item()) == (0.0, 0.25)


def test_a_weight_that_is_not_one_number_is_refused():
    with pytest.raises(ConfigError, match=r"weight must be a single number, got shape \[3\]"):
        inspect.unwrap(plif)(torch.ones(2, 3), torch.zeros(3))
