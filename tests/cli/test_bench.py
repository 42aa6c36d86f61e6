import json

import pytest

from spikformer.cli import main
from spikformer.engine import missing
from spikformer.models import create_model, save_weights

SMALL = ["--rows", "64", "--rounds", "3", "--runs", "3", "--images", "8", "--threads", "1"]
CALIBRATION = ["--calibration", "4"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "tiny.safetensors"
    model = create_model("spikformer_2_64_patch4", depth=1, dim=32, heads=2, steps=2)
    save_weights(model, path)
    return path


@pytest.mark.compiled
@pytest.mark.skipif(missing() is not None, reason="the engine was not built")
def test_a_bench_in_tables_files_and_a_figure(weights, tmp_path, capsys):
    out, figure = tmp_path / "b.json", tmp_path / "b.png"
    contenders = ["engine int8", "engine float32", "pytorch eager float32", "onnxruntime int8"]
    words = ["bench", str(weights), "--data", "digits", "--batches", "1", "4", *SMALL, *CALIBRATION]
    words += ["--contenders", *contenders, "--json", str(out), "--figure", str(figure)]
    assert main([*words, "--sweep", "--rates", "0", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "Not run: onnxruntime int8: there is no conventional network" in said
    assert "of bound" in said
    assert "is overtaken by" in said
    assert figure.read_bytes().startswith(b"\x89PNG")

    facts = json.loads(out.read_text())
    assert {"hardware", "versions", "git_commit", "images", "options", "source"} <= facts.keys()
    assert facts["real_images"]
    assert [each["batch"] for each in facts["contests"]] == [1, 4]
    for each in facts["contests"]:
        assert list(each["contenders"]) == contenders[:3]
        assert "onnxruntime int8" in each["absent"]
        for name, found in each["contenders"].items():
            assert found["images_per_second"]["least"] > 0
            assert found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
            assert found["first_logits_seconds"] > 0
            assert found["images_checked"] == 8
            assert found["imports_torch"] == name.startswith("pytorch")
        exact = each["contenders"]["engine float32"]
        assert exact["same_class"] >= 7 / 8
    assert {"float32", "bf16", "engine int8, dense"} <= facts["products"].keys()
    assert facts["products"]["bf16"]["images_per_second"] > 0
    assert set(facts["products"]["bf16"]["times"]) == set(contenders[:3])
    for precision in ("int8", "float32"):
        layers = facts["layers"][precision]
        assert layers["dense_macs"] == facts["dense_macs_per_image"]
        assert layers["bound"]["images_per_second"] > 0
        assert layers["share_of_bound"] > 0
        first, *others = [row for row in layers["operations"] if row["kind"] == "layer"]
        assert first["rate"] is None
        assert all(row["additions"] == row["macs"] * row["rate"] for row in others)
        assert all(row["seconds"] > 0 for row in layers["operations"])
    assert len(facts["sweeps"]) == 3
    assert facts["prototype"]["giga_macs_per_second"]["int8"]["0.05"] == [2550, 3040]


@pytest.mark.compiled
def test_a_model_by_its_name_says_that_nothing_is_real(capsys):
    words = ["bench", "spikformer_2_64_patch4", "--batches", "2", *SMALL, *CALIBRATION]
    assert main([*words, "--contenders", "pytorch eager float32"]) == 0
    said = capsys.readouterr().out
    assert "Warning: These weights are random" in said
    assert "Warning: These images are random" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a network, or ask for --sweep alone"),
        (["spikformer_9"], "unknown model 'spikformer_9'"),
        (["WEIGHTS", "--contenders", "engine int4"], "unknown contender 'engine int4'"),
        (["WEIGHTS", "--batches", "0"], "batches must be at least 1, got 0"),
        (["WEIGHTS", "--threads", "0"], "threads must be at least 1, got 0"),
        (["WEIGHTS", "--rates", "2"], "rates must lie between 0 and 1"),
        (["WEIGHTS", "--figure", "a.gif"], "a figure must end in"),
        (["WEIGHTS", "--data", "cifra10"], "unknown data set 'cifra10'"),
        (["WEIGHTS", "--images", "0"], "images and calibration must be at least 1"),
        (["own.py:Net"], "contenders are built from weights that describe themselves"),
        (["WEIGHTS", "--batchs", "2"], "did you mean --batches"),
        (["nothing.safetensors"], "there is no file"),
    ],
)
def test_bad_input_gets_one_sentence(words, sentence, weights, capsys):
    words = [str(weights) if word == "WEIGHTS" else word for word in words]
    assert main(["bench", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.compiled
def test_when_nobody_can_run_it_is_an_error(weights, capsys):
    words = ["bench", str(weights), "--data", "digits", "--batches", "2", *SMALL, *CALIBRATION]
    assert main([*words, "--contenders", "onnxruntime int8"]) == 2
    assert "no contender could run: onnxruntime int8" in capsys.readouterr().err
