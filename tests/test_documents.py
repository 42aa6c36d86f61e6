"""What the documents show is run."""

import re
from pathlib import Path

import pytest
import torch

from spikformer import create_model, engine, list_models
from spikformer.nn import NEURONS, resolve

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


COMPILES = {"engine.md"}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(path, marks=pytest.mark.compiled if path.name in COMPILES else ())
        for path in DOCUMENTS
    ],
    ids=lambda path: path.name,
)
def test_every_block_of_python_runs(document, tmp_path, monkeypatch):
    if document.name in COMPILES and engine.missing():
        pytest.skip(engine.missing())
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        exec(compile(block, document.name, "exec"), names)


def test_the_readme_shows_what_its_comments_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", DOCUMENTS[0].read_text(), re.DOTALL)[1], names)
    assert [*names["logits"].shape] == [2, 10]
    assert [*names["steps"].shape] == [4, 2, 10]
    assert [*names["counts"].shape] == [4, 2, 64, 384]


def test_the_table_of_models_is_true():
    rows = re.findall(r"^\| `(spikformer_\w+)` \|.*\| ([\d,]+) \|$", DOCUMENTS[0].read_text(), re.M)
    assert sorted(name for name, _ in rows) == sorted(list_models())
    for name, parameters in rows:
        with torch.device("meta"):
            model = create_model(name)
        assert f"{sum(p.numel() for p in model.parameters()):,}" == parameters


def test_the_example_neuron_works_in_a_model():
    spec = f"{ROOT / 'examples' / 'my_neuron.py'}:ConstantLeak"
    neuron = resolve("neuron", spec, NEURONS)(threshold=1.0)
    # gains 0.75 a step, loses 0.1: 0.75, 1.4 (fires), 0.75, 1.4 (fires)
    assert neuron(torch.full((4, 1), 1.5)).flatten().tolist() == [0, 1, 0, 1]
    model = create_model("spikformer_2_64_patch4", neuron=spec)
    model(torch.rand(2, 1, 16, 16)).sum().backward()
    assert model.stem.stages[0].conv.weight.grad.isfinite().all()


def test_version_and_changelog_agree():
    import spikformer

    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest[1] == spikformer.__version__
    assert f"version: {newest[1]}" in (ROOT / "CITATION.cff").read_text()


def test_no_placeholder_is_left():
    texts = [*DOCUMENTS, *(ROOT / "src" / "spikformer" / "recipes").glob("*.py")]
    for path in texts:
        assert not re.search(r"\b(TODO|TBD|TIME|RESULT(_ROW)?)\b", path.read_text()), path


def test_every_result_named_in_the_readme_is_kept():
    rows = re.findall(r"\]\((benchmarks/results/[^)]+)\)", DOCUMENTS[0].read_text())
    assert rows
    for row in rows:
        assert (ROOT / row).exists()
