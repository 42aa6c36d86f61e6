"""Spikes and gradients of integrate-and-fire by hand."""

import pytest
import torch

from spikformer.kernels import if_


def run(current, **options):
    spikes, v = if_(torch.tensor(current, dtype=torch.float64), **options)
    return spikes.tolist(), v.item()


def gradients(current, grad_spikes, grad_v, **options):
    """Of the current and of v0 = 0, with a slope of 1 within 0.5 of the threshold."""
    x = torch.tensor(current, dtype=torch.float64, requires_grad=True)
    v0 = torch.zeros((), dtype=torch.float64, requires_grad=True)
    spikes, v = if_(x, v0, surrogate="rectangle", alpha=1.0, **options)
    loss = (spikes * torch.tensor(grad_spikes)).sum() + v * grad_v
    grad_x, grad_v0 = torch.autograd.grad(loss, (x, v0))
    return grad_x.tolist(), grad_v0.item()


def test_it_adds_until_it_fires():
    # u = 0.375, 0.75, 1.125 (spike, reset to 0), 0.375
    assert run([0.375] * 4) == ([0, 0, 1, 0], 0.375)


def test_a_sum_at_the_threshold_fires():
    assert run([0.5, 0.5, 0.25]) == ([0, 1, 0], 0.25)


def test_it_never_forgets():
    # u = 0.75, then 0.75 for as long as nothing comes, then 1 (spike)
    assert run([0.75, 0.0, 0.0, 0.25]) == ([0, 0, 0, 1], 0.0)


def test_a_soft_reset_loses_nothing():
    # u = 0.75, 1.5 (spike, 0.5 left), 1.25 (spike, 0.25 left), 1 (spike, 0 left)
    assert run([0.75] * 4, v_reset=None) == ([0, 1, 1, 1], 0.0)


def test_one_spike_a_step_is_the_most_there_is():
    # u = 2.5 (spike, 1.5 left), 1.5 (spike, 0.5 left), 0.5
    assert run([2.5, 0.0, 0.0], v_reset=None) == ([1, 1, 0], 0.5)


def test_a_reset_to_below_zero_is_also_where_it_starts():
    # u = -0.5 + 1 = 0.5, 1.5 (spike, reset to -0.5), 0.5
    assert run([1.0, 1.0, 1.0], v_reset=-0.5) == ([0, 1, 0], 0.5)


# x = 0.75, 0.5: u = 0.75 (silent), 1.25 (spike), slopes 1. The loss is s1 + 2 s2 + 4 v.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # du2 = 2; it all goes back to v1; du1 = 1 + 2
        ({}, ([3, 2], 3)),
        # du2 = 2 + 4 (0 - 1.25) = -3; du1 = 1 - 3 (0 - 0.75) - 3 = 0.25
        ({"detach_reset": False}, ([0.25, -3], 0.25)),
        # du2 = 2 + 4 = 6; du1 = 1 + 6
        ({"v_reset": None}, ([7, 6], 7)),
        # du2 = 2 - 4 + 4 = 2; du1 = 1 - 2 + 2
        ({"v_reset": None, "detach_reset": False}, ([1, 2], 1)),
    ],
    ids=str,
)
def test_gradients_by_hand(options, expected):
    assert gradients([0.75, 0.5], [1.0, 2.0], 4.0, **options) == expected
