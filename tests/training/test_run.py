import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spikformer import load_model, read_card
from spikformer.errors import ConfigError, DataError, NotFiniteError
from spikformer.recipes import find_recipe
from spikformer.training._folder import clear, held, new_folder
from spikformer.training.fit import train
from spikformer.training.run import Run, read_curve

from .conftest import quick_recipe

HOLDER = """
import os, sys, time
from pathlib import Path
from spikformer.training._folder import held
with held(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(os.getpid(), child, sep="\\n", flush=True)
    time.sleep(100)
"""
PIPES = {"stdout": subprocess.PIPE, "text": True}


def same_weights(one, other):
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_leaves_weights_curve_record_and_logs(quick_run):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"best.safetensors", "last.safetensors", "resume.ckpt", "curve.csv", "run.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    facts = quick_run.facts()
    assert facts["status"] == "finished"
    assert facts["split_hash"]
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert quick_run.recipe() == quick_recipe()


def test_the_curve_has_a_line_an_epoch_and_best_is_its_highest(quick_run):
    curve = read_curve(quick_run.curve)
    assert [row["epoch"] for row in curve] == [0, 1]
    best = max(curve, key=lambda row: (row["validation_top1"], -row["validation_loss"]))
    facts = quick_run.facts()
    assert facts["best_epoch"] == best["epoch"] == read_card(quick_run.best).facts["epoch"]
    assert facts["validation_top1"] == pytest.approx(best["validation_top1"])


def test_weights_describe_themselves(quick_run):
    card = read_card(quick_run.best)
    assert card.classes == tuple("0123456789")
    assert card.input_size == (1, 16, 16)
    assert card.facts["data"] == "digits"
    model = load_model(quick_run.best)
    assert not model.training
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 10)


def test_the_same_recipe_gives_the_same_weights_to_the_bit(quick_run, tmp_path):
    torch.manual_seed(12345)  # history that must not matter
    torch.rand(7)
    again = train(quick_recipe(), tmp_path / "again")
    assert same_weights(again.last, quick_run.last)


def test_another_seed_gives_other_weights(quick_run, tmp_path):
    recipe = quick_recipe(epochs=1)
    other = train(
        dataclasses.replace(recipe, trainer=dataclasses.replace(recipe.trainer, seed=1)),
        tmp_path / "other",
    )
    assert not same_weights(other.last, quick_run.last)


def test_a_folder_in_use_is_refused_and_left_alone(quick_run, tmp_path):
    with pytest.raises(ConfigError, match="is not empty"):
        train(quick_recipe(), quick_run.path)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not overwritten"):
        train(quick_recipe(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(here):
    folders = {new_folder("digits") for _ in range(20)}
    assert len(folders) == 20
    assert all(folder.is_dir() for folder in folders)


def test_a_folder_in_which_another_process_trains_is_refused(quick_run):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, quick_run.path], **PIPES)
    try:
        held_by, forked = (int(holder.stdout.readline()) for _ in range(2))
        assert held_by == holder.pid
        for resume, overwrite in ((True, False), (False, True), (False, False)):
            with pytest.raises(ConfigError, match="another process is training in"):
                train(quick_recipe(), quick_run.path, resume=resume, overwrite=overwrite)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    try:  # what it forked lives on, and does not hold the folder
        assert train(quick_recipe(), quick_run.path, resume=True).is_finished()
    finally:
        os.kill(forked, signal.SIGKILL)


def test_a_folder_that_is_a_link_or_the_working_directory_keeps_its_place(here):
    (here / "real").mkdir()
    (here / "link").symlink_to(here / "real")
    with held(here / "link"):
        clear(Run(here / "link"), resume=False)
        (here / "link" / "run.json").write_text("{}")
    assert (here / "real" / "run.json").is_file()
    clear(Run(Path()), resume=False)
    assert here.is_dir()
    assert not any(here.iterdir())


def test_a_start_that_fails_leaves_no_folder(here, monkeypatch):
    monkeypatch.delenv("SPIKFORMER_DATA", raising=False)  # else this would train for weeks
    with pytest.raises(DataError):
        train(find_recipe("cifar10"))
    assert not any(here.iterdir())


def test_data_that_are_split_otherwise_since_are_not_trained_on(quick_run, tmp_path):
    folder = Run(tmp_path / "copy")
    shutil.copytree(quick_run.path, folder.path)
    folder.write(folder.facts() | {"split_hash": "0" * 64, "status": "interrupted"})
    with pytest.raises(DataError, match="digits is split otherwise than when"):
        train(folder.recipe(), folder.path, resume=True)


def test_a_resumed_run_keeps_its_recipe(quick_run):
    with pytest.raises(ConfigError, match=r"trainer\.epochs is 2 in this run and cannot become 9"):
        train(quick_recipe(epochs=9), quick_run.path, resume=True)
    renamed = dataclasses.replace(quick_recipe(), name="other")
    with pytest.raises(ConfigError, match="name is digits in this run and cannot become other"):
        train(renamed, quick_run.path, resume=True)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(DataError, match="not the folder of a run"):
        train(quick_recipe(), tmp_path / "nothing", resume=True)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_weights(tmp_path):
    recipe = quick_recipe(epochs=3)
    wild = dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, lr=1e30))
    with pytest.raises(
        NotFiniteError, match="the loss or gradient of step 1 is infinite or no number"
    ):
        train(wild, tmp_path / "wild")
    assert not Run(tmp_path / "wild").best.exists()


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json is damaged"):
        Run(tmp_path).facts()


@pytest.mark.parametrize(
    "choice", [{"neuron": "plif"}, {"attention": "vsa"}, {"steps": 2}, {"drop_path_rate": 0.2}]
)
def test_a_recipe_may_change_the_model(tmp_path, choice):
    recipe = quick_recipe(epochs=1, batch_size=512)
    changed = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **choice))
    run = train(changed, tmp_path / "run")
    stored = read_card(run.last).arguments
    assert choice.items() <= stored.items()
    assert (
        json.loads(run.record.read_text())["recipe"]["model"] | choice
        == json.loads(run.record.read_text())["recipe"]["model"]
    )


@pytest.mark.parametrize("content", ["[]", "{}", '{"recipe": 3}'])
def test_a_record_without_a_recipe_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json is damaged: it holds no recipe"):
        Run(tmp_path).facts()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch,validation_top1\n0,0.5\n", "no curve of a run: a line lacks 'seconds'"),
        ("epoch,seconds\n0," + "1" * 200_000 + "\n", "is no curve: field larger than"),
    ],
)
def test_a_damaged_curve_is_named(tmp_path, content, message):
    run = Run(tmp_path)
    run.curve.write_text(content)
    with pytest.raises(DataError, match=message):
        run.outcome()


def test_a_damaged_checkpoint_is_named_and_the_record_kept(quick_run, tmp_path):
    folder = Run(tmp_path / "copy")
    shutil.copytree(quick_run.path, folder.path)
    folder.write(folder.facts() | {"status": "interrupted"})
    before = folder.record.read_text()
    folder.checkpoint.write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"resume\.ckpt is damaged"):
        train(folder.recipe(), folder.path, resume=True)
    torch.save({"something": "else"}, folder.checkpoint)
    with pytest.raises(DataError, match=r"resume\.ckpt is damaged"):
        train(folder.recipe(), folder.path, resume=True)
    assert folder.record.read_text() == before


def test_a_moved_run_resumes(quick_run, tmp_path):
    folder = Run(tmp_path / "moved")
    shutil.copytree(quick_run.path, folder.path)
    longer = quick_recipe(epochs=3)
    folder.write(folder.facts() | {"recipe": longer.to_dict()})
    train(longer, folder.path, resume=True)
    assert [row["epoch"] for row in read_curve(folder.curve)] == [0, 1, 2]
    assert folder.facts()["hours"] > quick_run.facts()["hours"]


def test_nothing_is_removed_for_a_recipe_that_cannot_run(quick_run, tmp_path):
    folder = Run(tmp_path / "kept")
    shutil.copytree(quick_run.path, folder.path)
    recipe = quick_recipe()
    for wrong in (
        dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name="nothing")),
        dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, name="nothing")),
        dataclasses.replace(recipe, trainer=dataclasses.replace(recipe.trainer, accelerator="mps")),
    ):
        with pytest.raises(ConfigError):
            train(wrong, folder.path, overwrite=True)
    assert same_weights(folder.best, quick_run.best)


def test_the_checkpoint_holds_tensors_numbers_and_strings_alone(quick_run):
    kept = torch.load(quick_run.checkpoint, weights_only=True)
    assert kept["global_step"] == 2 * 33
