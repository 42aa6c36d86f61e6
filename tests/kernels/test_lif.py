"""Spikes and gradients of LIF by hand. Laws that hold for every neuron: test_neuron_laws.py."""

import pytest
import torch

from spikformer.errors import ConfigError
from spikformer.kernels import lif


def run(current, **options):
    """Spikes and the last potential of one neuron, as numbers."""
    spikes, v = lif(torch.tensor(current, dtype=torch.float64), **options)
    return spikes.tolist(), v.item()


def gradients(current, grad_spikes, grad_v, v0=0.0, **options):
    """Of the current at every step, and of v0, for one neuron with a slope of 1 where it matters."""
    x = torch.tensor(current, dtype=torch.float64, requires_grad=True)
    v0 = torch.tensor(v0, dtype=torch.float64, requires_grad=True)
    spikes, v = lif(x, v0, surrogate="rectangle", alpha=1.0, **options)
    loss = (spikes * torch.tensor(grad_spikes)).sum() + v * grad_v
    grad_x, grad_v0 = torch.autograd.grad(loss, (x, v0))
    return grad_x.tolist(), grad_v0.item()


def test_spikes_of_a_constant_current():
    # u = 0.75, 0.75 + 0.75/2 = 1.125 (spike, reset to 0), 0.75, 1.125 (spike)
    assert run([1.5] * 4) == ([0, 1, 0, 1], 0.0)


def test_spikes_of_a_changing_current():
    # u = 0.5, 0.5 + 1.5/2 = 1.25 (spike), -0.5, -0.5 + 3.5/2 = 1.25 (spike), 0.25
    assert run([1.0, 2.0, -1.0, 3.0, 0.5]) == ([0, 1, 0, 1, 0], 0.25)


def test_a_current_at_the_threshold_fires():
    # u = 2/2 = 1 = threshold; one unit in the last place below it is silent.
    assert run([2.0]) == ([1], 0.0)
    just_below = 2.0 - 2.0**-52
    assert run([just_below]) == ([0], just_below / 2)


def test_a_reset_to_below_zero_is_also_where_the_neuron_starts_and_rests():
    # u = -0.5 + (1 - 0)/2 = 0, 0 + (1 - 0.5)/2 = 0.25, 0.25 + (3 - 0.75)/2 = 1.375 (spike), 0
    assert run([1.0, 1.0, 3.0, 1.0], v_reset=-0.5) == ([0, 0, 1, 0], 0.0)


def test_a_silent_neuron_stays_at_its_reset_potential():
    assert run([0.0] * 3, v_reset=-0.5) == ([0, 0, 0], -0.5)


def test_a_soft_reset_keeps_what_lies_above_the_threshold():
    # u = 0.75, 1.125 (spike, 0.125 left), 0.125 + 1.375/2 = 0.8125,
    #     0.8125 + 2.1875/2 = 1.90625 (spike, 0.90625 left)
    assert run([1.5, 1.5, 1.5, 3.0], v_reset=None) == ([0, 1, 0, 1], 0.90625)


def test_threshold_and_time_constant():
    # tau 4: u = 1, 1 + (4 - 1)/4 = 1.75, 1.75 + 2.25/4 = 2.3125 (spike above 2)
    assert run([4.0, 4.0, 4.0], tau=4.0, threshold=2.0) == ([0, 0, 1], 0.0)


def test_with_a_time_constant_of_one_the_neuron_forgets_at_once():
    assert run([0.9, 0.9, 1.0, 0.9], tau=1.0) == ([0, 0, 1, 0], 0.9)


def test_it_starts_from_v0():
    # u = 0.8 + (1.2 - 0.8)/2 = 1 (spike)
    spikes, v = lif(torch.tensor([1.2]), torch.tensor(0.8))
    assert (spikes.tolist(), v.item()) == ([1], 0)


# Gradients of the two steps of x = 1.5, 1.5: u = 0.75 (silent), 1.125 (spike). With the rectangle
# of alpha 1 both slopes are 1. The loss is s1 + 2 s2 + 4 v.


def test_gradients_through_a_hard_reset():
    # du2: 2 from s2, nothing from v (the spike reset it)         = 2
    # dv1: half of it, since half leaks                             = 1
    # du1: 1 from s1, 1 from v1                                    = 2
    # Of each du half reaches x, of du1 half reaches v0.
    assert gradients([1.5, 1.5], [1.0, 2.0], 4.0) == ([1, 1], 1)


def test_gradients_through_a_hard_reset_that_is_not_detached():
    # du2: 2 from s2, 4 (0 - 1.125) from the reset                 = -2.5
    # dv1: half of it                                               = -1.25
    # du1: 1 from s1, -1.25 (0 - 0.75) from the reset, -1.25 from v1 = 0.6875
    found = gradients([1.5, 1.5], [1.0, 2.0], 4.0, detach_reset=False)
    assert found == ([0.34375, -1.25], 0.34375)


def test_gradients_through_a_soft_reset():
    # du2: 2 from s2, 4 from v                                     = 6
    # dv1: half of it                                               = 3
    # du1: 1 from s1, 3 from v1                                    = 4
    assert gradients([1.5, 1.5], [1.0, 2.0], 4.0, v_reset=None) == ([2, 3], 2)


def test_gradients_through_a_soft_reset_that_is_not_detached():
    # du2: 2 from s2, 4 (-1) from the reset, 4 from v              = 2
    # dv1: half of it                                               = 1
    # du1: 1 from s1, 1 (-1) from the reset, 1 from v1             = 1
    found = gradients([1.5, 1.5], [1.0, 2.0], 4.0, v_reset=None, detach_reset=False)
    assert found == ([0.5, 1], 0.5)


def test_gradients_through_a_reset_to_below_zero():
    # From v0 = -0.5: u = -0.5 + 2.5/2 = 0.75 (silent), 0.75 + (0.5 - 1.25)/2 = 0.375 (silent,
    # and 0.625 from the threshold: slope 0).
    # du2: 4 from v = 4;  dv1 = 2;  du1: 1 from s1, 2 (-0.5 - 0.75) from the reset, 2 = 0.5
    found = gradients([2.5, 0.5], [1.0, 2.0], 4.0, v0=-0.5, v_reset=-0.5, detach_reset=False)
    assert found == ([0.25, 2], 0.25)


def test_far_from_the_threshold_gradients_only_leak():
    # u = 0.25, 0.125: both 0.5 or more away, slope 0. dv = 1: du2 = 1, dx2 = 1/2; du1 = 1/2.
    assert gradients([0.5, 0.0], [1.0, 1.0], 1.0) == ([0.25, 0.5], 0.25)


def test_the_sigmoid_is_steepest_at_the_threshold():
    # u = 1: slope 4 sigma(0) (1 - sigma(0)) = 1, and dx = 1/tau.
    x = torch.tensor([2.0], requires_grad=True)
    spikes, _ = lif(x)
    spikes.sum().backward()
    assert x.grad.tolist() == [0.5]


@pytest.mark.parametrize("tau", [0.5, 0.0, -2.0])
def test_a_time_constant_below_one_step_is_refused(tau):
    with pytest.raises(ConfigError, match=f"tau is a number of steps and must be >= 1, got {tau}"):
        lif(torch.ones(2, 3), tau=tau)
