import csv
import json

import pytest

from spikformer.cli import main

OWN = """
import torch
from torch import nn

class Once(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(6, 3)

    def forward(self, frames):
        return self.map(frames.flatten(2)).transpose(0, 1)

class NoModule:
    pass
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def test_a_profile_in_figures_and_files(run, tmp_path, capsys):
    paths = tmp_path / "p.json", tmp_path / "p.csv"
    files = ["--json", str(paths[0]), "--csv", str(paths[1])]
    assert main(["profile", str(run), "--samples", "20", "--batch-size", "8", *files]) == 0
    said = capsys.readouterr().out
    assert "digits test, 20 samples" in said
    assert "blocks.1.attention.qkv.conv" in said
    assert "spikformer-strict" in said
    assert "Counting took" in said
    assert "Measured" in said
    facts = json.loads(paths[0].read_text())
    assert facts["samples"] == 20
    assert facts["costs"]["mac_pj"] == 4.6
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [row["layer"] for row in facts["operations"]]
    charged = sum(float(row["spikformer_pj"]) for row in rows)
    assert charged * 1e-9 == pytest.approx(facts["energy_mj"]["spikformer"])


def test_costs_are_options(run, capsys, tmp_path):
    out = tmp_path / "p.json"
    options = ["--samples", "2", "--mac-pj", "0", "--ac-pj", "0", "--json", str(out)]
    assert main(["profile", str(run), *options]) == 0
    assert json.loads(out.read_text())["energy_mj"]["spikformer"] == 0


def test_a_model_by_its_name_says_what_noise_cannot(capsys):
    assert main(["profile", "spikformer_2_64_patch4"]) == 0
    assert "rates, and with them energies, say nothing" in capsys.readouterr().out.replace(
        "\n", " "
    )


def test_the_papers_models_say_what_the_paper_charged(capsys):
    assert main(["profile", "spikformer_8_384", "--input-shape", "3", "32", "32"]) == 0
    assert "With its own (0.260 G) it is 7.335 mJ." in capsys.readouterr().out


def test_a_network_of_ones_own(own, capsys):
    assert main(["profile", f"{own}:Once", "--input-shape", "1", "2", "3"]) == 0
    assert "21 parameters, 4 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["profile"], "an argument is missing"),
        (["profile", "spikformer_9"], "unknown model 'spikformer_9'"),
        (["profile", "OWN:Once"], "needs the shape of a frame"),
        (["profile", "OWN:NoModule", "--input-shape", "1"], "must make a torch.nn.Module"),
        (["profile", "RUN", "--samples", "-1"], "samples must be at least 0"),
        (["profile", "RUN", "--mac-pj", "-1"], "mac_pj must not be negative, got -1.0"),
        (["profile", "OWN:Once", "--input-shape", "7"], "the network fails on [2, 4, 7]: "),
        (["profile", "spikformer_2_64_patch4", "--data", "digits"], "comes without weights"),
        (["profile", "RUN", "--data", "digit"], "unknown data set 'digit'"),
    ],
)
def test_bad_input_is_one_sentence(run, own, capsys, words, sentence):
    words = [w.replace("OWN", str(own)).replace("RUN", str(run)) for w in words]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


def test_time_may_come_first(tmp_path, capsys):
    own = tmp_path / "first.py"
    own.write_text(OWN.replace("frames.flatten(2)).transpose(0, 1)", "frames.flatten(2))"))
    counted = []
    for axis, path in (("1", tmp_path / "own.py"), ("0", own)):
        path.write_text(OWN if axis == "1" else path.read_text())
        out = tmp_path / f"{axis}.json"
        words = ["--input-shape", "1", "2", "3", "--steps", "5", "--time-axis", axis]
        assert main(["profile", f"{path}:Once", *words, "--json", str(out)]) == 0
        counted.append(json.loads(out.read_text())["total"]["macs"])
    assert counted == [5 * 18, 5 * 18]


def test_steps_of_a_model_are_those_it_runs(tmp_path):
    out = tmp_path / "p.json"
    assert main(["profile", "spikformer_2_64_patch4", "--steps", "2", "--json", str(out)]) == 0
    facts = json.loads(out.read_text())
    rows = {row["layer"]: row for row in facts["operations"] if row["role"] == "map"}
    assert facts["steps"] == 2
    assert rows["position.conv"]["macs"] == 2 * 4 * 4 * 9 * 64 * 64
