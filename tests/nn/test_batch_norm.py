"""The norm that knows about time, against PyTorch's on input that really is repeated."""

import pytest
import torch

from spikformer.nn import BatchNorm, SpikingConv, frozen_statistics

T = 3


def norms(momentum=0.1):
    """Ours and PyTorch's, with the same random weights and statistics."""
    ours = BatchNorm(4, momentum=momentum).double()
    theirs = torch.nn.BatchNorm2d(4, momentum=momentum).double()
    for name, buffer in ours.state_dict().items():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
        theirs.state_dict()[name].copy_(buffer)
    return ours, theirs


def batch(samples=5):
    return torch.randn(samples, 4, 3, 2, dtype=torch.float64) * 2 + 1


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.7])
@pytest.mark.parametrize("repeats", [1, T])
def test_repeats_equal_repeated_input(repeats, momentum):
    ours, theirs = norms(momentum)
    for step in range(1, 4):
        x = batch().requires_grad_()
        copies = x.detach().repeat(repeats, 1, 1, 1).requires_grad_()
        weights = torch.randn(repeats, *x.shape, dtype=torch.float64)
        found = ours(x, repeats).expand(repeats, *x.shape)
        expected = theirs(copies).view(repeats, *x.shape)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()

        close(found, expected)
        close(x.grad, copies.grad.view(repeats, *x.shape).sum(0))
        close(ours.weight.grad, theirs.weight.grad)
        close(ours.bias.grad, theirs.bias.grad)
        close(ours.running_mean, theirs.running_mean)
        close(ours.running_var, theirs.running_var)
        assert ours.num_batches_tracked == theirs.num_batches_tracked == step


def test_repeats_do_change_the_running_variance():
    # Of n samples the variance counts n/(n - 1): 30 values once give 30/29, three times 90/89.
    x = batch()
    (once, _), (repeated, _) = norms(1.0), norms(1.0)
    once(x)
    repeated(x, T)
    close(repeated.running_var, once.running_var * (29 / 30) * (90 / 89))
    close(repeated.running_mean, once.running_mean)


def test_repeats_change_nothing_in_eval_mode():
    ours, theirs = norms()
    ours.eval()
    theirs.eval()
    x = batch()
    assert torch.equal(ours(x, T), theirs(x))
    assert ours.num_batches_tracked == 0


def test_half_input_is_normed_in_float32_under_autocast():
    norm = BatchNorm(4)
    x = batch().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x, T)
    assert out.dtype == torch.bfloat16
    assert norm.running_var.dtype == torch.float32
    expected = 0.9 + 0.1 * x.double().var((0, 2, 3)) * (29 / 30) * (90 / 89)
    torch.testing.assert_close(norm.running_var.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("repeats", [1, T])
def test_frozen_statistics_stay_while_batches_norm_themselves(repeats):
    ours, theirs = norms()
    x = batch()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with frozen_statistics(ours):
        found = ours(x, repeats)
    close(found, theirs(x))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, before[name])
    ours(x, repeats)
    assert ours.num_batches_tracked == 1


def test_statistics_thaw_when_the_block_raises():
    layer = SpikingConv(2, 3, neuron=None)

    def fail():
        with frozen_statistics(layer):
            assert layer.norm.frozen
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert not layer.norm.frozen


def test_its_state_dict_is_that_of_pytorch():
    assert list(BatchNorm(4).state_dict()) == list(torch.nn.BatchNorm2d(4).state_dict())
