"""Each command, by the lines it prints and the code it exits with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from spikformer.cli import COMMANDS, main
from spikformer.data import load_data

from .conftest import QUICK


def says(capsys, *words):
    """Run a command that works; what it printed."""
    assert main(list(words)) == 0
    return capsys.readouterr().out


def fails(capsys, *words):
    """Run a command that must not work; the one sentence it said."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err.removeprefix("spikformer: ").rstrip()


def test_training_says_where_the_run_lies_and_what_is_next(capsys, tmp_path):
    said = says(capsys, "train", "digits", "--run", str(tmp_path / "run"), *QUICK)
    assert f"run: {tmp_path / 'run'}" in said
    assert f"next: spikformer evaluate {tmp_path / 'run'}" in said
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_evaluation_prints_accuracy_and_rate_and_writes_all_of_it(capsys, run):
    said = says(capsys, "evaluate", str(run), "--figure", str(run / "figure.png"))
    written = json.loads((run / "evaluation-test.json").read_text())
    assert f"digits test, 540 images: top-1 {written['top1']:.2%}" in said
    assert f"firing rate {written['firing_rate']:.4f}" in said
    assert written["precision"] == "32"
    with Image.open(run / "figure.png") as figure:
        assert figure.width > 500


def test_prediction_prints_a_line_a_file(capsys, run, tmp_path):
    pixels = load_data("digits").test.images[0, 0].numpy()
    for name, image in (("a.png", Image.fromarray(pixels)), ("b.jpg", Image.new("RGB", (90, 70)))):
        image.save(tmp_path / name)
    said = says(capsys, "predict", str(run), str(tmp_path / "a.png"), str(tmp_path / "b.jpg"))
    assert [line.split(":")[0] for line in said.splitlines()] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b.jpg"),
    ]


def test_models_are_listed_with_their_parameters(capsys):
    said = says(capsys, "models", "*4_384*")
    assert "spikformer_4_384_patch4" in said
    assert "9,324,730" in said
    assert "8_512" not in said


def test_data_sets_are_listed_with_what_is_found(capsys):
    assert "embedded, 1797 images, checksum good" in says(capsys, "data")


def test_the_doctor_names_versions_devices_operations_and_data(capsys):
    said = says(capsys, "doctor")
    for word in ("torch", "cpu", "spike_attention", "digits", "because"):
        assert word in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    assert "usage" in says(capsys, command, "--help")


def test_help_for_a_recipe_shows_its_values(capsys):
    said = says(capsys, "train", "digits", "--help")
    assert "--optim.lr FLOAT" in said
    assert "Learning rate after the warm-up" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train", "digts"], "unknown recipe 'digts'; did you mean digits or digits_dvs?"),
        (["train", "digits", "--optim.lrr", "1"], "did you mean --optim.lr"),
        (["train", "digits", "--optim.lr", "fast"], "could not convert string to float: 'fast'"),
        (
            ["train", "digits", "--model.name", "spikformer_4_348_patch4"],
            "did you mean spikformer_4_384_patch4",
        ),
        (["train", "digits", "--model.neuron", "lfi"], "unknown neuron 'lfi'; did you mean lif"),
        (
            ["train", "digits", "--data.name", "digit"],
            "unknown data set 'digit'; did you mean digits or digits_dvs?",
        ),
        (
            ["train", "--resume", "nowhere"],
            "'nowhere' is not the folder of a run: it has no run.json",
        ),
        (["evaluate", "nowhere.safetensors"], "there is no file 'nowhere.safetensors'"),
        (["models", "resnet50"], "unknown model 'resnet50'"),
        (["train", "digits", "--trainer.accelerator", "gpu"], "trainer: "),
        (["train", "digits", "--trainer.accelerator", "abacus"], "invalid choice 'abacus'"),
        (
            ["train", "digits", "--trainer.accelerator", "cpu", "--trainer.precision", "16"],
            "trainer.precision 16 does not exist on this accelerator",
        ),
    ],
)
def test_bad_input_is_one_sentence_with_the_nearest_name(
    capsys, tmp_path, monkeypatch, words, sentence
):
    monkeypatch.chdir(tmp_path)
    assert sentence in fails(capsys, *words)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # and leaves nothing behind


def test_damaged_files_and_absent_devices_are_one_sentence(capsys, run, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no")
    assert "bad.png' as an image" in fails(capsys, "predict", str(run), str(tmp_path / "bad.png"))
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    assert "is damaged or no safetensors" in fails(
        capsys, "evaluate", str(tmp_path / "bad.safetensors")
    )
    assert "device 'abacus' does not exist here; there is cpu" in fails(
        capsys, "evaluate", str(run), "--device", "abacus"
    )
    assert "not empty" in fails(capsys, "train", "digits", "--run", str(run))


def test_debug_shows_where():
    with pytest.raises(ValueError, match="unknown recipe"):
        main(["train", "digts", "--debug"])


def test_a_bug_of_ours_is_told_apart(capsys, monkeypatch):
    from spikformer.cli import models

    monkeypatch.setattr(models, "models_command", lambda: 1 / 0)
    assert main(["models"]) == 1
    assert "a bug of ours" in capsys.readouterr().err


def test_the_installed_command_exits_with_2_and_prints_to_stderr():
    done = subprocess.run(
        [sys.executable, "-m", "spikformer", "trian"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean train?" in done.stderr


def test_a_neuron_of_ones_own_trains_evaluates_and_predicts(capsys, tmp_path):
    own = str(Path(__file__).parents[2] / "examples" / "my_neuron.py") + ":ConstantLeak"
    folder = str(tmp_path / "run")
    says(capsys, "train", "digits", "--run", folder, "--model.neuron", own, *QUICK)
    assert "code named by a file is not loaded: pass neuron=" in fails(capsys, "evaluate", folder)
    figure = str(tmp_path / "figure.png")
    assert "top-1" in says(capsys, "evaluate", folder, "--neuron", own, "--figure", figure)
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    image = str(tmp_path / "a.png")
    assert image in says(capsys, "predict", folder, image, "--neuron", own)


def test_names_of_files_are_printed_as_they_are(capsys, run, tmp_path):
    for name in ("x[a].png", "y[red].png", "z[red]z.png"):
        Image.new("L", (16, 16)).save(tmp_path / name)
        assert f"{name}: " in says(capsys, "predict", str(run), str(tmp_path / name))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "RUN"], "predict needs at least one file"),
        (["predict", "RUN", "a.png", "--top", "0"], "top must be at least 1, got 0"),
        (["evaluate", "RUN", "--figure", "figure.gif"], "a figure must end in .png"),
        (["evaluate", "RUN", "--root", "nowhere"], "there is no folder 'nowhere'"),
        (["train", "digits", "--resume", "RUN"], "--resume takes no recipe"),
        (["train", "--resume"], "--resume wants the folder of a run"),
        (["train", "--resume", "--run", "RUN"], "--resume wants the folder of a run"),
        (
            ["train", "--resume", "RUN", "--optim.lr", "2"],
            "and cannot become 2.0 when it is resumed",
        ),
        (["train", "--resume", "RUN", "--overwrite"], "unknown option"),
        (["train", "--resume=nowhere"], "'nowhere' is not the folder of a run"),
        (["train", "digits", "--model.depth", "0"], "model.depth must be at least 1, got 0"),
        (["train", "digits", "--run", "FILE"], "is a file: a run needs a folder"),
        (["train", "digits", "--optim.weight-decay", "-1"], "optim.weight_decay must be 0 or more"),
        (["train", "digits", "--augment.scale", "1"], "augment.scale must be in [0, 1)"),
        (["train", "digits", "--data.split-seed", "-1"], "data.split_seed must be 0 or more"),
        (["train", "digits", "--model.neuron", ":X"], "neuron: cannot import ''"),
        (["evaluate"], "an argument is missing: Folder of a run"),
    ],
)
def test_more_bad_input_is_one_sentence(capsys, run, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    words = [str(run) if word == "RUN" else word for word in words]
    assert sentence in fails(capsys, *words)
