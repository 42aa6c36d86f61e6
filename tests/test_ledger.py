import csv
import json
import sys
from pathlib import Path

import pytest

from spikformer.errors import DataError
from spikformer.recipes import RECIPES
from spikformer.training.run import read_curve

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def ledger():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import ledger
    finally:
        sys.path.pop(0)
    return ledger


def test_the_readme_shows_the_ledger_as_it_is(ledger):
    readme = (ROOT / "README.md").read_text()
    assert ledger.with_table(readme) == readme


def test_every_recipe_has_a_line_and_those_without_a_run_are_empty(ledger):
    lines = ledger.table().splitlines()[2:]
    run = {entry.recipe for entry in ledger.entries()}
    for name in RECIPES:
        mine = [line for line in lines if line.startswith(f"| `{name}`")]
        assert mine
        if name not in run:
            assert mine[0].split("|")[3].strip() == ""


def test_the_table_of_all_runs_is_that_of_their_folders(ledger):
    with (ledger.HERE / "ledger.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{k: str(v) for k, v in e.row().items()} for e in ledger.entries()]
    for row in rows:
        assert row["command"].startswith(f"spikformer train {row['recipe']} ")
        assert (ledger.HERE / row["curve"]).is_file()
        assert all(row[c] for c in ("recipe", "protocol", "precision", "split_hash", "git_commit"))


def test_every_run_of_the_ledger_says_what_it_was(ledger):
    for entry in ledger.entries():
        curve = read_curve(entry.path / "curve.csv")
        assert len(curve) == entry.facts["epochs"]
        assert entry.evaluation["precision"] == "32"
        assert entry.evaluation["split"] == "test"
        assert entry.evaluation["split_hash"] == entry.facts["split_hash"]
        assert not entry.facts["git_commit"].endswith("-dirty")
        assert entry.facts["recipe"]["data"]["root"] is None  # whose folder it was is no result


def test_a_run_that_was_not_evaluated_is_refused(ledger, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {"name": "digits"}}))
    with pytest.raises(DataError, match="was not evaluated"):
        ledger.add(tmp_path, "none")
    assert not (ledger.HERE / "runs" / "none").exists()


def test_seeds_are_one_line_with_their_spread(ledger):
    assert ledger._percent(iter([0.98, 0.99, 1.0])) == "99.00 ± 1.00 (3 seeds)"
    assert ledger._percent(iter([0.5])) == "50.00"
    assert ledger._percent(iter([None])) == ""
