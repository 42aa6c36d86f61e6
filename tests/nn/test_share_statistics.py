"""Two processes that share statistics equal one process that has both batches."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.networks import tiny

from spikformer.nn import BatchNorm, frozen_statistics, share_statistics

SIZES = (3, 5)
"""Samples of each process."""


def batch():
    torch.manual_seed(5)
    return torch.randn(sum(SIZES), 4, 3, 2, dtype=torch.float64) * 2 + 1


def images():
    torch.manual_seed(6)
    return torch.rand(sum(SIZES), 3, 8, 8, dtype=torch.float64)


def norm():
    norm = BatchNorm(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 1.5, 2.0]))
        norm.bias.copy_(torch.tensor([0.0, -1.0, 1.0, 0.5]))
    return norm


def step(module, x, samples, weights, **arguments):
    """Everything that a training step leaves behind, for `samples` of the joint batch."""
    x = x[samples].clone().requires_grad_()
    out = module.train()(x, **arguments)
    (out * weights[samples] + out.square()).sum().backward()
    return {
        "output": out.detach(),
        "input gradient": x.grad,
        "gradients": {name: p.grad for name, p in module.named_parameters()},
        "buffers": {name: b.clone() for name, b in module.named_buffers()},
    }


def cases(samples, prepare):
    """The steps that both ways of computing take."""
    torch.manual_seed(7)
    weights, class_weights = torch.randn(sum(SIZES), 4, 3, 2), torch.randn(sum(SIZES), 5)
    results = {}
    for repeats in (1, 3):
        module = prepare(norm())
        results[f"norm, {repeats} repeats"] = step(
            module, batch(), samples, weights, repeats=repeats
        )
    results["network"] = step(prepare(tiny()), images(), samples, class_weights)
    return results


def one_of_two(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=len(SIZES))

    def prepare(module):
        share_statistics(module, dist.group.WORLD)
        return module

    samples = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
    results = cases(samples, prepare)

    frozen = prepare(norm())
    with frozen_statistics(frozen):
        results["frozen"] = step(frozen, batch(), samples, torch.ones(sum(SIZES), 4, 3, 2))
    if rank == 0:  # alone: any wait for the other process would never end
        results["eval"] = prepare(norm()).eval()(batch())
        alone = prepare(norm())
        share_statistics(alone, share=False)
        results["own again"] = alone(batch())
        # timm's moving average copies the model: the copy has its own statistics
        results["copy"] = copy.deepcopy(prepare(norm()))(batch())
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results of each of the two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_of_two, (str(folder),), nprocs=len(SIZES))
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(SIZES))]


@pytest.fixture(scope="module")
def one():
    """Results of one process with the joint batch."""
    return cases(slice(None), lambda module: module)


CASES = ["norm, 1 repeats", "norm, 3 repeats", "network"]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["output", "input gradient"])
def test_outputs_and_input_gradients_are_those_of_the_joint_batch(one, two, case, what):
    close(torch.cat([rank[case][what] for rank in two]), one[case][what])


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_weights_add_up_to_those_of_the_joint_batch(one, two, case):
    for name, expected in one[case]["gradients"].items():
        close(sum(rank[case]["gradients"][name] for rank in two), expected)


@pytest.mark.parametrize("case", CASES)
def test_running_statistics_are_those_of_the_joint_batch_on_every_rank(one, two, case):
    for rank in two:
        for name, expected in one[case]["buffers"].items():
            close(rank[case]["buffers"][name], expected)


def test_without_sharing_statistics_would_differ(one):
    alone = norm()
    alone.train()(batch()[: SIZES[0]])
    joint = one["norm, 1 repeats"]["buffers"]["running_var"]
    assert not torch.allclose(alone.running_var, joint, rtol=1e-3)


def test_frozen_statistics_stay_on_every_rank(two):
    for rank in two:
        buffers = rank["frozen"]["buffers"]
        assert all(torch.equal(buffers[name], value) for name, value in norm().named_buffers())
        assert torch.equal(rank["frozen"]["output"], rank["norm, 1 repeats"]["output"])


def test_eval_mode_asks_nobody(two):
    assert torch.equal(two[0]["eval"], norm().eval()(batch()))


def test_a_copy_shares_nothing(two):
    close(two[0]["copy"], norm().train()(batch()))


def test_sharing_can_end(two):
    close(two[0]["own again"], norm().train()(batch()))
