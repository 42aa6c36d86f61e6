"""Processes that train together: what each of them sees, and what comes of it."""

import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers.breaking import Moment, kill_and_wait, train_apart
from helpers.trainings import EVERYTHING, SMALL, assert_same_end, checkpoint, digits, options

from spikformer.data import load_data
from spikformer.data.pixels import Augmentation
from spikformer.errors import ConfigError
from spikformer.training._ranks import FOLDER_VARIABLE, RANK_VARIABLES, agreed_folder, is_first
from spikformer.training.evaluation import evaluate
from spikformer.training.run import Run, read_curve

PLAIN = {
    "model.steps": 2,
    "model.dim": 32,
    "augment.erasing": 0.3,
    "trainer.epochs": 1,
    "trainer.accelerator": "cpu",
}
"""Draws for each sample by itself, whatever else is in its batch."""
SHARED = {"trainer.precision": "64", "trainer.share_statistics": True}
FIVE_STEPS = 5
UNEVEN = {"trainer.precision": "64", "data.validation": 513}
"""Of the 513, one rank has five batches and the other four; 744 are left to train on."""


@contextmanager
def noting(folder, rank):
    """Keeps what every step of this rank saw and did."""
    from spikformer.training.module import Classifier

    notes = {"samples": [], "gradients": [], "states": [], "counted": []}
    augment, step = Augmentation.__call__, Classifier.optimizer_step
    validated = Classifier.on_validation_epoch_end

    def note_samples(self, *args, **names):
        notes["samples"].append((names["epoch"], names["samples"].tolist()))
        return augment(self, *args, **names)

    def note_step(self, *args, **kwargs):
        step(self, *args, **kwargs)
        model = self.model
        notes["gradients"].append({n: p.grad.clone() for n, p in model.named_parameters()})
        notes["states"].append({n: x.clone() for n, x in model.state_dict().items()})

    def note_counts(self):
        notes["counted"].append(self.tallies[:, 2].tolist())
        validated(self)

    with (
        mock.patch.object(Augmentation, "__call__", note_samples),
        mock.patch.object(Classifier, "optimizer_step", note_step),
        mock.patch.object(Classifier, "on_validation_epoch_end", note_counts),
    ):
        yield
    torch.save(notes, folder / f"{rank}.pt")


def noted(folder, rank):
    return torch.load(folder / f"{rank}.pt", weights_only=True)


def trained_together(recipe, folder):
    """The run of two ranks, and their notes."""
    run = train_apart(recipe, folder / "run", watch=partial(noting, folder))
    return run, [noted(folder, rank) for rank in range(2)]


def trained_alone(recipe, folder):
    run = train_apart(recipe, folder / "run", watch=partial(noting, folder))
    return run, noted(folder, 0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two ranks, batches of 100, statistics shared."""
    recipe = digits(PLAIN, SHARED, {"data.batch_size": 100}, devices=2)
    return trained_together(recipe, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """One process, batches of 200."""
    recipe = digits(PLAIN, {"data.batch_size": 200}, precision="64")
    return trained_alone(recipe, tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two ranks, each with statistics of its own, and everything that is drawn."""
    recipe = digits(EVERYTHING, SMALL, UNEVEN, devices=2)
    return trained_together(recipe, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def accumulated(tmp_path_factory):
    """One process that takes both ranks' batches for each step."""
    recipe = digits(EVERYTHING, SMALL, UNEVEN, accumulate=2)
    return trained_alone(recipe, tmp_path_factory.mktemp("accumulated"))


def close(found, expected):
    """Equal but for the order in which float64 sums: a few ulps (2e-16) over some 1e5 terms.

    The gradient of a bias that a norm cancels is nothing but rounding, some 1e-16. AdamW divides it
    by itself + 1e-8 and so moves the bias, and the mean after it, by about 1e-8 learning rates.
    """
    assert found.keys() == expected.keys()
    for name in found:
        cancelled = name.endswith(("conv.bias", "running_mean"))
        torch.testing.assert_close(
            found[name],
            expected[name],
            rtol=1e-10,
            atol=1e-9 if cancelled else 1e-12,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_the_ranks_batches_are_the_halves_of_the_joint_batch(shared, joint):
    (_, ranks), (_, one) = shared, joint
    assert len(one["samples"]) == FIVE_STEPS
    for (_, first), (_, second), (_, whole) in zip(
        *[rank["samples"] for rank in ranks], one["samples"], strict=True
    ):
        assert first + second == whole


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("step", range(FIVE_STEPS))
def test_gradients_with_shared_statistics_are_those_of_the_joint_batch(shared, joint, rank, step):
    close(shared[1][rank]["gradients"][step], joint[1]["gradients"][step])


@pytest.mark.parametrize("rank", [0, 1])
def test_weights_and_statistics_after_five_steps_are_those_of_the_joint_batch(shared, joint, rank):
    found, expected = shared[1][rank]["states"], joint[1]["states"]
    assert len(found) == len(expected) == FIVE_STEPS
    assert any(name.endswith("running_var") for name in expected[-1])
    close(found[-1], expected[-1])


def test_the_curve_with_shared_statistics_is_that_of_the_joint_batch(shared, joint):
    (found,), (expected,) = (read_curve(run.curve) for run in (shared[0], joint[0]))
    assert found["firing_rate"] > 0.01  # not the equality of silence
    for column in ("train_loss", "validation_loss", "validation_top1", "firing_rate"):
        # Rates and losses add up in float32, and sums over ranks round once more.
        assert found[column] == pytest.approx(expected[column], rel=1e-6)


def test_statistics_that_are_not_shared_differ_between_ranks(two):
    first, second = (rank["states"][0] for rank in two[1])
    assert torch.equal(first["head.weight"], second["head.weight"])
    name = next(name for name in first if name.endswith("running_mean"))
    assert not torch.allclose(first[name], second[name], rtol=1e-3)


def test_ranks_are_disjoint_and_leave_out_the_tail(two):
    batches, epochs, left = 5, 2, 744
    for epoch in range(epochs):
        seen = [
            {sample for e, batch in rank["samples"] if e == epoch for sample in batch}
            for rank in two[1]
        ]
        assert [len(rank) for rank in seen] == [batches * 64] * 2
        assert not seen[0] & seen[1]
        assert max(seen[0] | seen[1]) < left


def test_validation_counts_every_sample_once(two, shared):
    assert [rank["counted"] for rank in two[1]] == [[[257.0]] * 2, [[256.0]] * 2]
    assert [rank["counted"] for rank in shared[1]] == [[[90.0]], [[90.0]]]
    run, _ = two
    for row in read_curve(run.curve):
        right = row["validation_top1"] * 513
        assert right == pytest.approx(round(right), abs=1e-9)


def test_one_device_that_accumulates_takes_the_steps_of_two(two, accumulated):
    """Running statistics may differ: one device has seen both batches, rank 0 only its own."""
    (_, (first, _)), (_, alone) = two, accumulated
    assert len(first["gradients"]) == len(alone["gradients"])
    for found, expected in zip(alone["gradients"], first["gradients"], strict=True):
        close(found, expected)
    weights = first["gradients"][0].keys()
    close(*({name: kept["states"][-1][name] for name in weights} for kept in (alone, first)))


def test_two_devices_that_were_killed_end_as_those_that_were_not(two, tmp_path):
    expected, _ = two
    run = Run(tmp_path / "run")
    kill_and_wait(expected.recipe(), run.path, Moment("step", 9))
    assert checkpoint(run)["global_step"] == 8
    train_apart(expected.recipe(), run.path, resume=True)
    assert_same_end(run, expected)


def on_the_command_line(folder, *words):
    settings = {
        "trainer.devices": 2,
        "trainer.accelerator": "cpu",
        "trainer.epochs": 1,
        "data.batch_size": 64,
        "model.steps": 2,
        "model.dim": 32,
    }
    done = subprocess.run(
        [sys.executable, "-m", "spikformer", "train", "digits", *options(settings), *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


def check_whole(run):
    assert run.facts()["status"] == "finished"
    names = {path.name for path in run.path.iterdir()}
    logs = {name for name in names if name.startswith("events.")}
    assert len(logs) == 1
    assert names - logs == {
        "best.safetensors",
        "last.safetensors",
        "resume.ckpt",
        "curve.csv",
        "run.json",
    }
    (row,) = read_curve(run.curve)
    found = evaluate(run.path, split="validation")
    assert found.samples == len(load_data("digits").validation) == 180
    # Of those at hand one may tip over: it is in other batches here, and they round otherwise.
    assert row["validation_top1"] == pytest.approx(found.top1, abs=1.5 / 180)


def test_two_devices_train_from_the_command_line(tmp_path):
    done = on_the_command_line(tmp_path, "--run", "together")
    check_whole(Run(tmp_path / "together"))
    assert [path.name for path in tmp_path.iterdir()] == ["together"]
    assert done.stdout.count("run: together\n") == 1
    # What it trains on, one bar, and nothing from the libraries underneath or the second process.
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("digits: 1077 to train on, 180 to choose by, 540 to test on; split")
    assert "16/16 steps" not in done.stderr
    assert "8/8 steps" in done.stderr


def test_two_devices_share_statistics_and_agree_on_a_folder(tmp_path):
    on_the_command_line(tmp_path, "--trainer.share-statistics")
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    check_whole(Run(folder))


@pytest.fixture
def alone(monkeypatch):
    """An environment in which nobody was launched."""
    for name in (FOLDER_VARIABLE, "WORLD_SIZE", "SLURM_NTASKS", *RANK_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_first_process_chooses_the_folder_and_those_it_starts_are_told(alone):
    assert agreed_folder(lambda: Path("runs/chosen")) == Path("runs/chosen")
    alone.setenv("LOCAL_RANK", "1")
    alone.setenv("WORLD_SIZE", "2")
    assert agreed_folder(lambda: Path("runs/another")) == Path("runs/chosen")


def test_processes_that_are_started_within_an_interactive_job_know_which_is_first(alone):
    alone.setenv("SLURM_PROCID", "0")  # of the shell; all that it starts inherit it
    assert is_first()
    alone.setenv("LOCAL_RANK", "1")
    assert not is_first()


@pytest.mark.parametrize(
    "launched",
    [
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
    ],
    ids=["torchrun, first", "torchrun, second", "slurm"],
)
def test_processes_that_a_launcher_started_must_be_given_a_folder(alone, launched):
    for name, value in launched.items():
        alone.setenv(name, value)
    with pytest.raises(ConfigError, match=r"several processes cannot agree .*: give --run"):
        agreed_folder(lambda: Path("runs/chosen"))


def test_two_trainings_in_one_process_each_choose_a_folder(alone):
    chosen = iter([Path("one"), Path("two")])
    assert agreed_folder(lambda: next(chosen)) == Path("one")
    assert agreed_folder(lambda: next(chosen)) == Path("two")
