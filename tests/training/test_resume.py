"""A run that was broken off, wherever, and resumed ends as the one that was not: to the bit."""

import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import pytest
from helpers.breaking import (
    Breaking,
    Moment,
    Training,
    broken_and_resumed,
    kill_and_wait,
    train_apart,
)
from helpers.trainings import (
    CHECKPOINTS,
    EVERYTHING,
    SMALL,
    STEPS,
    assert_same_end,
    checkpoint,
    differences,
    digits,
    end,
    options,
    partial_files,
)

from spikformer import load_model, read_card
from spikformer.errors import NotFiniteError
from spikformer.training import module
from spikformer.training.fit import train
from spikformer.training.run import Run, read_curve

RECIPE = digits(EVERYTHING, SMALL)
ONE_EPOCH = {"trainer.epochs": 1}
TWO_WORKERS = {"data.workers": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    return train_apart(RECIPE, tmp_path_factory.mktemp("whole") / "run")


def test_the_run_is_as_long_as_these_tests_believe(whole):
    kept = checkpoint(whole)
    assert kept["global_step"] == 2 * STEPS
    assert len(read_curve(whole.curve)) == 2
    assert len(end(whole)["checkpoint"]["callbacks"]) >= 3


def test_another_seed_ends_elsewhere_in_everything_that_is_compared(whole, tmp_path):
    other = train_apart(digits(EVERYTHING, SMALL, seed=1), tmp_path / "run")
    found = " ".join(differences(end(other), end(whole)))
    for part in ("/state_dict/model.", "/state_dict/average.", "/optimizer_states", "/best/"):
        assert part in found
    for column in ("train_loss", "validation_loss", "firing_rate"):
        assert f"/curve/1/{column}" in found


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(Moment("step", 5), id="the first step after a checkpoint"),
        pytest.param(Moment("step", STEPS), id="between an epoch's last step and its validation"),
        pytest.param(Moment("step", STEPS + 6), id="in the second epoch"),
        pytest.param(Moment("validation", 3), id="in validation"),
        pytest.param(Moment("save", 2), id="in a save within an epoch"),
        pytest.param(Moment("save", CHECKPOINTS), id="in the save at an epoch's end"),
        pytest.param(Moment("replace resume.ckpt", 2), id="after a save, before it is in place"),
        pytest.param(Moment("replace best.safetensors", 1), id="between last and best"),
        pytest.param(Moment("epoch", 1), id="just after an epoch's end"),
        pytest.param(Moment("epoch", 2), id="just after the last epoch's end"),
    ],
)
def test_a_run_broken_off_ends_as_the_whole_one(whole, tmp_path, moment):
    resumed = broken_and_resumed(RECIPE, tmp_path / "run", moment)
    assert_same_end(resumed, whole)
    assert partial_files(resumed) == []


def test_a_run_broken_off_between_the_batches_of_a_step_ends_as_the_whole_one(tmp_path):
    halves = {"data.batch_size": 32, "trainer.accumulate": 2}
    recipe = digits(EVERYTHING, SMALL, ONE_EPOCH, halves)
    expected = train_apart(recipe, tmp_path / "whole")
    resumed = broken_and_resumed(recipe, tmp_path / "run", Moment("step", 2 * 5 + 1))
    assert_same_end(resumed, expected)


def test_a_run_broken_off_in_float64_ends_as_the_whole_one(tmp_path):
    recipe = digits(EVERYTHING, SMALL, ONE_EPOCH, precision="64")
    expected = train_apart(recipe, tmp_path / "whole")
    resumed = broken_and_resumed(recipe, tmp_path / "run", Moment("step", 6))
    assert_same_end(resumed, expected)


def test_a_run_killed_three_times_and_given_workers_on_the_way_ends_as_the_whole_one(
    whole, tmp_path
):
    run = Run(tmp_path / "run")
    kill_and_wait(RECIPE, run.path, Moment("save", 2))
    recipe = digits(EVERYTHING, SMALL, TWO_WORKERS)
    assert checkpoint(run)["global_step"] == 4
    kill_and_wait(recipe, run.path, Moment("validation", 3), resume=True)
    assert checkpoint(run)["global_step"] == 8
    random_step = random.Random(0).randrange(STEPS) + 4  # after the first step of epoch 2
    kill_and_wait(recipe, run.path, Moment("step", random_step, delay=0.02), resume=True)
    assert STEPS <= checkpoint(run)["global_step"] < 2 * STEPS
    assert load_model(run.last) is not None  # what is there is whole
    train_apart(recipe, run.path, resume=True)
    assert_same_end(run, whole, workers=2)


def kills(count):
    """At random moments, three of them at chosen ones."""
    draw = random.Random(20)
    chosen = [Moment("epoch", 1), Moment("validation", 3), Moment("save", 4)]
    drawn = [
        Moment("step", draw.randrange(11, 65), delay=draw.uniform(0.001, 0.1))
        for _ in range(count - len(chosen))
    ]
    return chosen + drawn


@pytest.fixture(scope="module")
def whole_digits(tmp_path_factory):
    recipe = digits(EVERYTHING, TWO_WORKERS, checkpoint_every=10)
    return train_apart(recipe, tmp_path_factory.mktemp("whole") / "digits")


@pytest.mark.slow
@pytest.mark.parametrize("moment", kills(20), ids=str)
def test_twenty_kills_have_twenty_identical_ends(whole_digits, tmp_path, moment):
    run = Run(tmp_path / "run")
    kill_and_wait(whole_digits.recipe(), run.path, moment)
    train_apart(whole_digits.recipe(), run.path, resume=True)
    assert_same_end(run, whole_digits)


@pytest.mark.parametrize(
    ("bad", "found", "kept"),
    [
        pytest.param(5, 7, 4, id="found by the log"),
        pytest.param(7, 8, 4, id="found by a checkpoint"),
        pytest.param(9, 11, 8, id="found at the epoch's end"),
        pytest.param(11, 12, 11, id="found in the second epoch"),
    ],
)
def test_a_loss_that_is_no_number_names_its_step_and_leaves_what_was_good(
    whole, tmp_path, monkeypatch, bad, found, kept
):
    run = Run(tmp_path / "run")
    original, taken = module.training_loss, []

    def loss(*args):
        taken.append(None)
        return original(*args) * (math.nan if len(taken) == bad + 1 else 1)

    with monkeypatch.context() as patched:
        patched.setattr(module, "training_loss", loss)
        with pytest.raises(
            NotFiniteError, match=f"the loss or gradient of step {bad} is infinite or no"
        ):
            train(RECIPE, run.path)
    assert len(taken) == found  # it is not looked at after every step
    state = checkpoint(run)
    assert state["global_step"] == kept
    assert all(x.isfinite().all() for x in state["state_dict"].values())
    assert run.last.exists() == (kept >= STEPS)
    assert run.facts()["status"] == "failed"
    assert_same_end(train_apart(RECIPE, run.path, resume=True), whole)


def test_a_gradient_that_is_no_number_behind_a_loss_that_is_one_is_found_before_it_is_kept(
    tmp_path, monkeypatch
):
    run, bad = Run(tmp_path / "run"), 5
    original, taken = module.training_loss, []

    def loss(*args):
        taken.append(None)
        found = original(*args) * 1
        if len(taken) == bad + 1:
            found.register_hook(lambda grad: grad * math.nan)
        return found

    monkeypatch.setattr(module, "training_loss", loss)
    with pytest.raises(NotFiniteError, match=f"the loss or gradient of step {bad} is"):
        train(RECIPE, run.path)
    state = checkpoint(run)
    assert state["global_step"] <= bad
    assert all(x.isfinite().all() for x in state["state_dict"].values())


@contextmanager
def full_disk(folder, size, moment, _rank):
    """From then on no file may grow beyond `size` bytes. What that raises is noted."""

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with Breaking(moment, fill):
        try:
            yield
        except Exception as error:
            (folder / "raised").write_text(f"{isinstance(error, OSError)}: {error}")
            raise


@pytest.mark.parametrize(
    ("unwritten", "moment", "kept"),
    [
        pytest.param("checkpoint", Moment("epoch", 1), STEPS, id="checkpoint"),
        pytest.param("last", Moment("step", 2 * STEPS), 2 * STEPS - 2, id="weights"),
    ],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(whole, tmp_path, unwritten, moment, kept):
    run = Run(tmp_path / "run")
    size = getattr(whole, unwritten).stat().st_size // 2
    full = partial(full_disk, tmp_path, size, moment)
    assert Training(RECIPE, run.path, watch=full).wait() == 1
    assert checkpoint(run)["global_step"] == kept
    assert read_card(run.last).facts["epoch"] == 0
    assert load_model(run.last) is not None
    assert partial_files(run) == []
    assert run.facts()["status"] == "failed"
    assert_same_end(train_apart(RECIPE, run.path, resume=True), whole)
    # The command line says what an OSError says; anything else would pass for a bug.
    assert (tmp_path / "raised").read_text() == "True: [Errno 27] File too large"


def ctrl_c_works_again():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it


@pytest.mark.parametrize(
    ("number", "send"),
    [
        pytest.param(signal.SIGTERM, os.kill, id="kill"),
        pytest.param(signal.SIGTERM, os.killpg, id="end of a batch job"),
        pytest.param(signal.SIGINT, os.killpg, id="Ctrl-C"),
    ],
)
def test_a_signal_ends_a_run_with_a_sentence_that_says_how_to_go_on(whole, tmp_path, number, send):
    """Ctrl-C and batch systems signal the data workers too."""
    run = Run(tmp_path / "run")
    settings = EVERYTHING | SMALL | TWO_WORKERS
    command = [sys.executable, "-m", "spikformer", "train", "digits", "--run", str(run.path)]
    process = subprocess.Popen(
        [*command, *options(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=ctrl_c_works_again,
    )
    try:
        deadline = time.monotonic() + 120
        while not run.checkpoint.is_file():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        send(process.pid, number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    # A worker that was just handing over a batch may complain of it; the run itself says one thing.
    sentence = f"spikformer: interrupted; go on with: spikformer train --resume {run.path}\n"
    assert err.count("spikformer: ") == err.count(sentence) == 1, err
    assert "__del__" not in err
    assert "a bug of ours" not in err
    assert "best on validation" not in out
    assert run.facts()["status"] == "interrupted"
    assert checkpoint(run)["global_step"] < 2 * STEPS
    assert partial_files(run) == []
    train_apart(run.recipe(), run.path, resume=True)
    assert_same_end(run, whole, workers=2)
