import shutil

import pytest

from spikformer import compare
from spikformer.cli import main
from spikformer.errors import ConfigError, DataError
from spikformer.training.run import Run, read_curve


@pytest.fixture
def two_runs(quick_run, tmp_path):
    """The quick run, and a copy that was told another seed and ended after one epoch."""
    other = Run(tmp_path / "other")
    shutil.copytree(quick_run.path, other.path)
    facts = other.facts()
    facts["recipe"]["trainer"]["seed"] = 7
    other.write(facts)
    lines = other.curve.read_text().splitlines(keepends=True)
    other.curve.write_text("".join(lines[:2]))
    return quick_run, other


def test_only_the_settings_that_differ_are_shown(two_runs):
    found = compare([run.path for run in two_runs])
    assert found.settings == {"trainer.seed": ("0", "7")}
    assert found.names == (two_runs[0].path.name, "other")


def test_curves_stand_epoch_by_epoch_with_nothing_where_a_run_had_ended(two_runs):
    first, second = (row["validation_top1"] for row in read_curve(two_runs[0].curve))
    found = compare([run.path for run in two_runs])
    assert found.curves == {0: (first, first), 1: (second, None)}
    assert found.facts["epochs"] == (2, 1)
    assert found.measured == ("validation_top1",) * 2


def test_somebody_elses_curve_in_percent_stands_beside_a_run(quick_run, tmp_path):
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("epoch,train_loss,eval_top1\n0,2.2,35.29\n1,1.9,46.07\n300,0.9,94.5\n")
    found = compare([quick_run.path, theirs])
    assert [found.curves[epoch][1] for epoch in (0, 1, 300)] == pytest.approx(
        [0.3529, 0.4607, 0.945]
    )
    assert found.curves[300][0] is None
    assert found.measured == ("validation_top1", "eval_top1")
    assert not found.settings  # it has no recipe to differ in


def test_long_curves_show_milestones_and_where_every_run_ended(tmp_path):
    paths = []
    for length in (25, 311):
        paths.append(tmp_path / f"{length}.csv")
        rows = "".join(f"{epoch},0.5\n" for epoch in range(length))
        paths[-1].write_text("epoch,test_top1\n" + rows)
    shown = compare(paths).milestones()
    assert shown == sorted(shown)
    assert {0, 24, 100, 310} <= set(shown)
    assert len(shown) < 25


def test_a_share_is_not_taken_for_a_percentage(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text("epoch,validation_top1\n0,0.38\n1,1.0\n")
    assert compare(paths).curves == {0: (0.38, 0.38), 1: (1.0, 1.0)}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "epoch,eval_top1\nx,3\n", "\0\1"])
def test_a_file_that_is_no_curve_is_named(quick_run, tmp_path, content):
    path = tmp_path / "thesis.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=r"thesis\.csv is no curve"):
        compare([quick_run.path, path])


def test_one_run_is_no_comparison(quick_run):
    with pytest.raises(ConfigError, match="needs two runs or more, got 1"):
        compare([quick_run.path])


def test_the_command_prints_results_settings_and_curves(two_runs, capsys):
    assert main(["compare", *(str(run.path) for run in two_runs)]) == 0
    said = capsys.readouterr().out
    best = two_runs[0].facts()["validation_top1"]
    assert f"{best:.2%}" in said
    assert "trainer.seed" in said
    assert "setting that differs" in said
