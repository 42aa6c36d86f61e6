"""Trainings on recordings keep the promises that trainings on images keep."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.breaking import Moment, broken_and_resumed, train_apart
from helpers.recordings import aedat3, packet, write_nmnist
from helpers.trainings import assert_same_end, changed, differences, digits, end

from spikformer import load_model
from spikformer.data import Slicing, load_data, read_events, to_frames
from spikformer.errors import ConfigError
from spikformer.training import fit
from spikformer.training.evaluation import evaluate
from spikformer.training.fit import train
from spikformer.training.prediction import predict

SMALL = {
    "model.dim": 32,
    "model.heads": 2,
    "model.depth": 1,
    "data.batch_size": 8,
    "data.frames": 2,
    "data.validation": 10,
    "augment.event_operation": True,
    "augment.mixup": 0.5,
    "trainer.epochs": 2,
    "trainer.checkpoint_every": 1,
    "trainer.accelerator": "cpu",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_nmnist(root)
    return changed("nmnist", SMALL, {"data.root": root}, paper_protocol=True)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """Three steps an epoch, two epochs, and nothing interrupts them."""
    return train_apart(recipe, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("step", [2, 5])
def test_a_run_broken_off_in_an_epoch_goes_on_with_the_next_batch(recipe, whole, tmp_path, step):
    resumed = broken_and_resumed(recipe, tmp_path / "run", Moment("step", step))
    assert_same_end(resumed, whole)


def test_the_test_labels_change_no_weight(recipe, whole, tmp_path, monkeypatch):
    def turned(*source, **choices):
        data = load_data(*source, **choices)
        labels = (data.test.labels + 1) % 10
        return dataclasses.replace(data, test=dataclasses.replace(data.test, labels=labels))

    monkeypatch.setattr(fit, "load_data", turned)
    theirs = train(recipe, tmp_path / "turned")
    different = {
        path.rsplit("/")[-1].split(":")[0] for path in differences(end(whole), end(theirs))
    }
    assert "test_loss" in different
    assert different <= {"test_top1", "test_loss", "top1_paper_protocol"}


def test_recordings_are_predicted_as_they_are_evaluated(recipe, whole):
    paths = sorted((recipe.data.root / "nmnist" / "Test").glob("*/*.bin"))
    assert evaluate(whole.path, root=recipe.data.root).samples == len(paths)
    halves = Slicing(by="count", number=2)
    counts = np.stack([to_frames(read_events(path), halves, (34, 34)) for path in paths])
    framed = torch.nn.functional.pad(torch.from_numpy(counts).float(), (7, 7, 7, 7))
    with torch.inference_mode():
        shares = load_model(whole.best)(framed).softmax(-1)
    for found, row in zip(predict(whole.path, paths), shares, strict=True):
        expected = {str(k): row[k].item() for k in range(10)}
        assert found.probabilities == pytest.approx(expected, abs=1e-6)


def test_what_is_for_pictures_is_refused_for_events_and_the_other_way_round(recipe, tmp_path):
    augment = dataclasses.replace(recipe.augment, rand_augment=True)
    with pytest.raises(ConfigError, match="rand_augment is for pictures, and nmnist has frames"):
        train(dataclasses.replace(recipe, augment=augment), tmp_path / "run")
    with pytest.raises(ConfigError, match="event_operation is for frames of events, and digits"):
        train(digits({"augment.event_operation": True}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


WINDOW = 200_000
"""Microseconds. A clip has seven: five to train on, and two of a recording of their own."""


def write_gestures(clips, root):
    """Real clips in the official layout, as AEDAT 3.1 with labels that cut them into windows.

    The two halves of a clip pass for two users.
    """
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    for part, windows in {"train": range(5), "test": range(5, 7)}.items():
        trials = []
        for label in range(1, 10):
            recorded = read_events(clips / f"{label}.bs2")
            spans = [(WINDOW * k, WINDOW * (k + 1)) for k in windows]
            lines = [f"{label},{start},{end}" for start, end in spans]
            trial = f"user{label + spans[0][0] // WINDOW * 10:02}_natural"
            trials.append(f"{trial}.aedat")
            content = aedat3(packet(recorded.between(spans[0][0], spans[-1][1])))
            (folder / trials[-1]).write_bytes(content)
            labels = "\n".join(["class,startTime_usec,endTime_usec", *lines])
            (folder / f"{trial}_labels.csv").write_text(labels)
        (folder / f"trials_to_{part}.txt").write_text("\n".join(trials))


@pytest.mark.slow
def test_windows_of_real_gestures_are_learnt_by_heart(data_root, tmp_path):
    write_gestures(data_root / "dvs" / "dvs128gesture_clips", tmp_path)
    small = {
        "model.dim": 64,
        "model.depth": 1,
        "data.root": tmp_path,
        "data.frames": 4,
        "data.batch_size": 9,
        "data.workers": 0,
        "optim.lr": 3e-3,
        "optim.warmup_epochs": 0,
        "optim.cooldown_epochs": 0,
        "trainer.epochs": 80,
        "trainer.precision": "32",
        "trainer.accelerator": "cpu",
    }
    run = train(changed("dvs128gesture_T10", small), tmp_path / "run")
    learnt = evaluate(run.path, root=tmp_path, split="train")
    assert (learnt.samples, learnt.top1) == (45, 1.0)
    assert evaluate(run.path, root=tmp_path).top1 > 0.5  # of nine gestures, and the same people
