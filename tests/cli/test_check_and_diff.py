"""`spikformer check` and `spikformer diff`, by what they print, write and exit with."""

import json

import pytest
import torch

from spikformer import create_model, save_weights
from spikformer.cli import main

NETWORK = '''
from torch import nn
from spikformer.nn import LIF


class Good(nn.Module):
    """Frames [B, T, 4] to logits [T, B, 3]."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.lif, self.head = LIF(), nn.Linear(8, 3)

    def forward(self, frames):
        x = frames.transpose(0, 1)
        current = self.norm(self.linear(x.flatten(0, 1)))
        return self.head(self.fire(current, x.shape[:2]))

    def fire(self, current, steps_and_batch):
        return self.lif(current.unflatten(0, steps_and_batch))


class Flat(Good):
    """Its membrane runs through all samples of a step, then of the next."""

    def fire(self, current, steps_and_batch):
        return self.lif(current).unflatten(0, steps_and_batch)


class TimeFirst(Good):
    def forward(self, frames):
        return super().forward(frames.transpose(0, 1))


class Still(Good):
    """Images [B, 4], seen four times."""

    def forward(self, images):
        return super().forward(images[:, None].expand(-1, 4, -1))


class Fails(Good):
    def __init__(self):
        raise RuntimeError("no\\nand once more no")


class FailsLater(Good):
    def fire(self, current, steps_and_batch):
        raise RuntimeError("not now\\nand not then")


def nothing():
    return None
'''
SHAPE = ("--input-shape", "4")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "network.py"
    path.write_text(NETWORK)
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a small network whose neurons fire."""
    torch.manual_seed(0)
    model = create_model("spikformer_2_64_patch4", depth=1, dim=16, heads=2)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.bias"):
            torch.nn.init.constant_(parameter, 1.0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(model, path)
    return str(path)


def ran(capsys, *words, code=0):
    assert main(list(words)) == code
    said = capsys.readouterr()
    assert (code == 2) == bool(said.err)
    return said.err if code == 2 else said.out


def lines_of(said):
    """The status of every check that was printed."""
    return {line[19:51].strip(): line[:17].strip() for line in said.splitlines()[1:]}


def test_a_network_of_ones_own_is_checked(capsys, own):
    said = ran(capsys, "check", f"{own}:Good", *SHAPE, "--steps", "3")
    assert "5 samples of 3 steps, 4, float64" in said
    statuses = lines_of(said)
    assert statuses.pop("compiled as eager") == "skipped"
    assert set(statuses.values()) == {"passed"}


@pytest.mark.parametrize(("name", "axis"), [("TimeFirst", "0"), ("Still", "still")])
def test_time_may_be_elsewhere(capsys, own, name, axis):
    said = ran(capsys, "check", f"{own}:{name}", *SHAPE, "--time-axis", axis)
    expected = "passed" if axis == "0" else "cannot be checked"
    assert lines_of(said)["later steps do not matter"] == expected


def test_a_failure_exits_with_1_and_names_the_layer(capsys, own, tmp_path):
    written = tmp_path / "verdicts.json"
    said = ran(capsys, "check", f"{own}:Flat", *SHAPE, "--json", str(written), code=1)
    assert "failed             neighbours do not matter" in said
    assert "first in lif, by 1\n" in said
    facts = json.loads(written.read_text())
    assert (facts["samples"], facts["steps"], facts["input_shape"]) == (3, 4, [4])
    verdicts = {verdict["check"]: verdict for verdict in facts["verdicts"]}
    assert verdicts["neighbours do not matter"] == {
        "check": "neighbours do not matter",
        "status": "failed",
        "words": "a sample moves when the others in its batch are replaced",
        "layer": "lif",
        "difference_layer_units": 1.0,
    }


def test_a_model_is_checked_by_name_and_weights_by_file(capsys, weights):
    said = ran(capsys, "check", "spikformer_2_64_patch4", "--input-shape", "1", "8", "8")
    assert set(lines_of(said).values()) == {"passed", "skipped"}
    said = ran(capsys, "check", weights, "--steps", "2")
    assert "3 samples of 2 steps, 1 x 16 x 16, float64" in said


def test_equal_networks_exit_with_0(capsys, own):
    said = ran(capsys, "diff", f"{own}:Good", f"{own}:Good", *SHAPE)
    assert "every spike agrees; layers of neurons: 1" in said
    assert "logits differ by 0 at most" in said


def test_samples_are_not_as_many_as_steps(capsys, own):
    """Else [B, T, ...] and [T, B, ...] could be taken for each other."""
    for steps, samples in (("3", 5), ("4", 3)):
        words = ("diff", f"{own}:Good", f"{own}:FailsLater", *SHAPE, "--steps", steps)
        assert f"failed on [{samples}, {steps}, 4]" in ran(capsys, *words, code=2)


def test_networks_that_part_exit_with_1_and_say_where(capsys, own, tmp_path):
    written = tmp_path / "difference.json"
    words = ("diff", f"{own}:Good", f"{own}:Flat", *SHAPE, "--seed", "1", "--samples", "20")
    said = ran(capsys, *words, "--json", str(written), code=1)
    assert "they part in layer 1 of 1: lif" in said
    assert "to the threshold" in said
    parting = json.loads(written.read_text())["parting"]
    assert (parting["a"]["layer"], parting["step"]) == ("lif", 1)
    assert parting["sample"] > 0  # over [T B] nothing runs before the first sample of a step


def test_precisions_and_data_of_weights(capsys, weights):
    words = ("diff", weights, "--precisions", "32", "bf16", "--data", "digits", "--samples", "4")
    said = ran(capsys, *words, code=1)
    assert f"{weights} (bf16): " in said
    assert "(32): " in said
    assert "every spike agrees" in ran(capsys, "diff", weights, weights)


def test_one_that_knows_its_input_tells_the_other(capsys, own, weights):
    said = ran(capsys, "diff", f"{own}:Good", weights, code=2)
    assert "Good" not in said  # it got a shape: what failed is running it
    assert "the network failed on [3, 4, 1, 16, 16]" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["check", "spikformer_2_46_patch4"],
            "unknown model 'spikformer_2_46_patch4'; did you mean",
        ),
        (["check", "nowhere.safetensors"], "there is no file 'nowhere.safetensors'"),
        (["check", "OWN:Good"], "needs the shape of a frame, say --input-shape 3 32 32"),
        (["check", "OWN:Bad", *SHAPE], "defines no 'Bad'"),
        (["check", "OWN:Fails", *SHAPE], "Fails failed with RuntimeError: no"),
        (["check", "OWN:FailsLater", *SHAPE], "failed on [3, 4, 4]: RuntimeError: not now\n"),
        (
            ["diff", "OWN:Good", "OWN:FailsLater", *SHAPE],
            "failed on [3, 4, 4]: RuntimeError: not now\n",
        ),
        (["check", "OWN:nothing", *SHAPE], "nothing must make a torch.nn.Module, got NoneType"),
        (
            ["check", "OWN:Good", *SHAPE, "--neuron", "if"],
            "neuron can be changed in models of ours",
        ),
        (["check", "OWN:Good", "--input-shape", "5"], "the network failed on [3, 4, 5]"),
        (["check", "spikformer_2_64_patch4", "--time-axis", "0"], "--time-axis is for networks"),
        (["check", "spikformer_2_64_patch4", "--steps", "0"], "steps must be at least 1, got 0"),
        (["diff", "spikformer_2_64_patch4"], "diff wants two networks, or two precisions"),
        (["diff", "OWN:Good", "OWN:Good", *SHAPE, "--samples", "0"], "samples must be at least 1"),
        (["diff", "OWN:Good", "OWN:Good", *SHAPE, "--data", "digits"], "digits has 1 channels"),
    ],
)
def test_bad_input_is_one_sentence(capsys, own, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    said = ran(capsys, *(word.replace("OWN", own) for word in words), code=2)
    assert sentence in said
    assert said.count("\n") == 1
