"""Engines and states as files: they come back whole, and what is damaged is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.mutants import damaged, encoded, network, parts, run, write
from helpers.plans import Builder, assert_answers
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.numpy import save_file

from spikformer.engine import Engine, State, load
from spikformer.engine._file import KEY, is_engine
from spikformer.engine.reference import reference
from spikformer.errors import ConfigError, DataError, SpikformerError, WeightsError
from spikformer.export import Head, Layer, Neuron, Plan
from spikformer.export._checks import LARGEST_COUNT

pytestmark = pytest.mark.usefixtures("built")
MOST_MEGABYTES = 3000
"""What a process may take that runs engines which say that they are large."""
CHECKED = "this is no plan of an engine: TypeCheckError"
"""Where annotations are checked, a wrong type does not come as far as our own sentence."""

both_precisions = pytest.mark.parametrize("precision", ["float32", "int8"])


@pytest.fixture(params=["float32", "int8"])
def engine(request):
    built = network(request.param)
    return Engine(built.plan, built.arrays, threads=1)


@pytest.fixture
def saved(engine, tmp_path):
    engine.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def images(engine, count=3):
    plan = engine.plan
    random = np.random.default_rng(1)
    return random.random((count, plan.channels, plan.height, plan.width), np.float32)


def test_what_is_saved_comes_back(engine, saved):
    again = load(saved, threads=1)
    assert again.plan == engine.plan
    assert again.precision == engine.precision
    assert again.layers() == engine.layers()
    assert again.arrays.keys() == engine.arrays.keys()
    for name, array in engine.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    np.testing.assert_array_equal(again(images(engine)), engine(images(engine)))


def test_saving_again_writes_the_same_bytes(saved, tmp_path):
    load(saved).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_saving_leaves_nothing_beside(saved):
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_failed_save_leaves_the_old_file(engine, saved, monkeypatch):
    before = saved.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        engine.save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_engine_loads_and_answers_without_torch(engine, saved):
    script = (
        "import sys, numpy as np, spikformer.engine\n"
        f"engine = spikformer.engine.load({str(saved)!r}, threads=1)\n"
        "images = np.load(sys.argv[1])\n"
        "np.save(sys.argv[2], engine(images))\n"
        "stream = engine.stream(); stream(images); state = stream.state.to_bytes()\n"
        "engine.stream(spikformer.engine.State.from_bytes(state))(images)\n"
        "heavy = {'torch', 'timm', 'torchvision', 'lightning'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    given, answer = saved.parent / "images.npy", saved.parent / "logits.npy"
    np.save(given, images(engine))
    done = subprocess.run(
        [sys.executable, "-c", script, given, answer], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(answer), engine(images(engine)))


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(DataError, match="there is no file") as caught:
            load(path)
        assert str(path) in str(caught.value)


def test_other_files_are_no_engines(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is no engine"):
        load(path)
    assert not is_engine(path)
    path.write_text("these are words")
    with pytest.raises(WeightsError, match="is no engine"):
        load(path)
    save_file({"x": np.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="compile one with"):
        load(path)
    assert not is_engine(path)
    for about in ("", "null", "[]", '"x"', "{}", '{"plan": 3}', "[" * 10_000):
        save_file({"x": np.zeros(3)}, path, metadata={KEY: about})
        with pytest.raises(WeightsError, match="is no engine"):
            load(path)


def test_weights_of_a_model_are_no_engine():
    path = Path(__file__).parents[2] / "benchmarks" / "weights" / "cifar10_small.safetensors"
    with pytest.raises(WeightsError, match="is no engine: compile one with"):
        load(path)
    assert not is_engine(path)


def test_another_version_is_named(tmp_path):
    path = tmp_path / "net.safetensors"
    plan, arrays = parts(network())
    for version in (0, 2, "1", None, [1]):
        path.write_bytes(encoded(plan, arrays, version=version))
        with pytest.raises(WeightsError, match=r"is an engine of version .*, and this is 1"):
            load(path)
    assert is_engine(path)


def test_one_changed_weight_is_seen(tmp_path):
    path = tmp_path / "net.safetensors"
    plan, arrays = parts(network())
    path.write_bytes(encoded(plan, arrays, digest="0" * 64))
    with pytest.raises(WeightsError, match="is damaged"):
        load(path)


def test_weights_in_types_that_numpy_lacks_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    data = encoded(*parts(network("float32")))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for kind, bits in (("BF16", 16), ("F8_E4M3", 8), ("F8_E5M2", 8), ("U64", 64)):
        entry = header["head.bias"]
        shape = (entry["data_offsets"][1] - entry["data_offsets"][0]) * 8 // bits
        changed = header | {"head.bias": entry | {"dtype": kind, "shape": [shape]}}
        text = json.dumps(changed).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        with pytest.raises(WeightsError):
            load(path)


def test_ten_thousand_damaged_files_are_refused_or_still_answer(tmp_path):
    path, sentences = tmp_path / "net.safetensors", []
    for mutant in damaged(encoded(*parts(network()))):
        write(path, mutant)
        try:
            load(path, threads=1)
            sentences.append(None)
        except SpikformerError as error:
            sentences.append(str(error))
    assert all(each is None or 10 < len(each) < 1000 for each in sentences)
    assert sentences.count(None) < 0.01 * len(sentences) == 100


def test_wrong_plans_are_refused_or_still_answer_without_a_crash(tmp_path):
    # Their digests are right, so that what is wrong is seen by what reads the plan. In a process of
    # its own, which says which one is next.
    command = [sys.executable, "-m", "helpers.mutants", str(tmp_path / "net.safetensors")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=300
    )
    *_, before, last = done.stdout.splitlines()
    assert done.returncode == 0, (last, done.stderr[-2000:])
    answered, total = (int(word) for word in last.split()[1::2])
    assert 100 < answered < 0.2 * total
    assert int(before.split()[2]) < MOST_MEGABYTES


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"channels": 2}, r"layer0.weight must be float32 \[9, 2, 6\], got float32 \[9, 3, 6\]"),
        ({"channels": 0}, r"images are \(0, 4, 4, 2\)"),
        ({"steps": 2.0}, f"steps is 2.0, no int|{CHECKED}"),
        ({"height": 2**20}, "images are"),
        ({"height": 2**15, "width": 2**15}, "too large"),
        ({"height": 2**11, "width": 2**11, "steps": 16}, "too large|too many"),
        ({"operations": []}, "a plan ends with its one head"),
        ({"nothing": 1}, "this is no plan of an engine"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_sentence(tmp_path, change, sentence):
    plan, arrays = parts(network("float32"))
    (tmp_path / "net").write_bytes(encoded(plan | change, arrays))
    with pytest.raises(WeightsError, match=sentence) as caught:
        load(tmp_path / "net")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("index", "change", "sentence"),
    [
        (0, {"kind": "softmax"}, "this is no plan of an engine"),
        (0, {"kernel": 5}, "layer0 has a kernel of 5, not 1 or 3"),
        (0, {"rate": 10**400}, "layer0 has a rate of"),
        (0, {"input": "elsewhere"}, "reads 'elsewhere', which none wrote before"),
        (0, {"output": "images"}, "'images' is written twice"),
        (0, {"name": ".steps"}, "name is '.steps', which is no name"),
        (2, {"name": "layer0"}, "two operations are called 'layer0'"),
        (3, {"name": "layer2"}, "two operations are called 'layer2'"),
        (3, {"heads": 4}, "18 channels are no 3 x 4 heads"),
        (3, {"pool": 2}, "has a pool of 2"),
        (3, {"pool": 2**63 + 1}, "has a pool of"),
        (3, {"scale": float("nan")}, "has a scale of nan"),
        (3, {"input": "sum5"}, "reads 'sum5', which none wrote before"),
        (6, {"input": "images"}, "layer6.weight must be|cannot be in int8"),
        (5, {"other": "layer2.spikes"}, "the two sides of a residual differ in shape"),
        (5, {"other": "images"}, "pixels cannot be added to spikes"),
        (7, {"input": "images"}, "the head's input must be spikes or counts"),
        (7, {"classes": 10**6}, "the head has 1000000 classes"),
    ],
)
def test_a_wrong_operation_is_refused_in_one_sentence(tmp_path, index, change, sentence):
    plan, arrays = parts(network())
    plan["operations"][index] |= change
    (tmp_path / "net").write_bytes(encoded(plan, arrays))
    with pytest.raises(WeightsError, match=sentence) as caught:
        load(tmp_path / "net")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tau": 0.5}, "tau=0.5, below 1"),
        ({"tau": float("nan")}, "a constant that is not finite"),
        ({"threshold": 1e39}, "a constant that is not finite in float32"),
        ({"charge": "leak"}, "an unknown charge 'leak'"),
        ({"rest": 0}, f"rest is 0, no float|{CHECKED}"),
        ({"soft_reset": 1}, f"soft_reset is 1, no bool|{CHECKED}"),
    ],
)
def test_a_wrong_neuron_is_refused_in_one_sentence(tmp_path, change, sentence):
    plan, arrays = parts(network())
    plan["operations"][0]["neuron"] |= change
    (tmp_path / "net").write_bytes(encoded(plan, arrays))
    with pytest.raises(WeightsError, match=sentence):
        load(tmp_path / "net")


def test_counts_that_no_byte_holds_are_refused():
    built = Builder()
    built.layer(3)
    for _ in range(7):
        built.add(built.last)
    assert built.values[built.last].maximum == 128 <= LARGEST_COUNT
    with pytest.raises(WeightsError, match="counts of up to 256 do not fit in a byte"):
        _ = built.add(built.last), built.values


def test_odd_weights_still_give_an_engine_that_runs():
    # No number in a file can crash it: what is not finite spreads, and -128 is as good as -127.
    built = network()
    for name, array in built.arrays.items():
        array[...] = -128 if array.dtype == np.int8 else np.nan
        engine = Engine(built.plan, built.arrays, threads=1)
        run(engine)
        assert_answers(engine, images(engine), reference(built.plan, built.arrays, images(engine)))
        assert name in engine.arrays


def test_a_state_comes_back_from_its_bytes(engine):
    frames = images(engine)
    stream = engine.stream()
    first, after = stream(frames), stream.state
    again = State.from_bytes(after.to_bytes())
    assert again.steps == 1
    np.testing.assert_array_equal(again.sums, first)
    assert again.potentials.keys() == {
        each.name for each in engine.plan.operations[:-1] if hasattr(each, "name")
    }
    np.testing.assert_array_equal(engine.stream(again)(frames), stream(frames))


def test_damaged_states_are_refused_or_still_answer(engine):
    frames = images(engine)
    stream = engine.stream()
    stream(frames)
    for data in damaged(stream.state.to_bytes(), count=1000):
        try:
            engine.stream(State.from_bytes(data))(frames)
        except SpikformerError:
            continue


def test_states_of_odd_types_and_shapes_are_refused(engine):
    frames = images(engine)
    stream = engine.stream()
    stream(frames)
    arrays = load_arrays(stream.state.to_bytes())
    for name, array in arrays.items():
        kinds = {"bool", "u1", "f2", "f4", "f8", "i8"} - {array.dtype.str[1:]}
        others = [array.astype(kind) for kind in sorted(kinds)]
        others += [array[..., None].copy(), array.reshape(-1)[:0].copy(), np.array(array.flat[0])]
        for other in others:
            data = save_arrays(arrays | {name: other})
            with pytest.raises((WeightsError, ConfigError), match="state"):
                engine.stream(State.from_bytes(data))
        less = {key: value for key, value in arrays.items() if key != name}
        with pytest.raises((WeightsError, ConfigError), match="state"):
            engine.stream(State.from_bytes(save_arrays(less)))
    with pytest.raises(ConfigError, match="more does not fit"):
        engine.stream(State.from_bytes(save_arrays(arrays | {"more": np.zeros(3, np.float32)})))


def test_a_plan_is_its_json():
    plan = network().plan
    assert Plan.from_json(plan.to_json()) == plan
    small = Plan(1, 1, 1, 1, (Layer("a", "images", "b", 1, 1, Neuron()), Head("h", "b", 1)))
    assert json.loads(small.to_json())["operations"][0] == {
        "kind": "layer",
        "name": "a",
        "input": "images",
        "output": "b",
        "kernel": 1,
        "out_channels": 1,
        "neuron": {
            "charge": "multiply",
            "tau": 2.0,
            "rate": 0.5,
            "threshold": 1.0,
            "rest": 0.0,
            "soft_reset": False,
        },
        "rate": None,
    }
