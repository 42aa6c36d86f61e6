"""The compiled kernels against their definition in NumPy: equal to the bit, wherever they run.

No torch in here: this file also runs on its own, with a library that has sanitizers in it,
`pytest --confcutdir=tests/engine tests/engine/test_kernels.py`.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.plans import (
    CHANNELS,
    HEAD_WIDTHS,
    Builder,
    assert_answers,
    assert_equals_reference,
    counts_up_to_255,
    draw_network,
    neurons,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikformer.engine import Engine
from spikformer.engine._packing import ARITHMETIC, TILES
from spikformer.engine._run import Call
from spikformer.engine.reference import fire, reference
from spikformer.export.plan import CHARGES, Neuron

pytestmark = pytest.mark.usefixtures("built")
SOME = settings(
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PRECISIONS = ("float32", "int8")
both_precisions = pytest.mark.parametrize("precision", PRECISIONS)
both_paths = pytest.mark.parametrize("path", ["events", "dense"])
batches = st.sampled_from([1, 2, 3, 7, 8, 9, 17])


@both_precisions
@SOME
@given(data=st.data())
def test_any_network_equals_its_definition(instruction_set, precision, data):
    built = draw_network(data.draw, precision)
    images = built.images(data.draw(batches))
    expected = reference(built.plan, built.arrays, images)
    for path in ("events", "dense", None):
        threads = data.draw(st.integers(1, 3))
        engine = Engine(
            built.plan, built.arrays, threads=threads, instruction_set=instruction_set, path=path
        )
        assert_answers(engine, images, expected)


@SOME
@given(data=st.data())
def test_any_network_fed_frame_by_frame_equals_its_definition(instruction_set, data):
    built = draw_network(data.draw)
    built.still = False
    frames = built.images(data.draw(batches))
    expected = reference(built.plan, built.arrays, frames)
    engine = Engine(built.plan, built.arrays, threads=2, instruction_set=instruction_set)
    stream = engine.stream()
    for step, logits in enumerate(expected.step_logits):
        np.testing.assert_array_equal(stream(frames[:, step]), logits)
        stream = engine.stream(type(stream.state).from_bytes(stream.state.to_bytes()))


@both_precisions
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("out_channels", [1, 16, 31, 64, 65, 100, 128, 130, 200])
def test_every_tile_computes_the_same(instruction_set, precision, kernel, out_channels):
    built = Builder(height=3, width=5, precision=precision, seed=out_channels + kernel)
    built.layer(70)
    built.layer(out_channels, kernel)
    built.head()
    images = built.images(2)
    expected = reference(built.plan, built.arrays, images)
    rate = expected.values[built.plan.layers[1].output].mean()
    assert out_channels == 1 or 0.1 < rate < 0.9
    arithmetic = ARITHMETIC.index("float32" if precision == "float32" else "int16")
    for tile in TILES[arithmetic]:
        engine = Engine(
            built.plan, built.arrays, threads=1, instruction_set=instruction_set, tile=tile
        )
        tiles = {layer.name: packed.tile for layer, packed in _packed(engine)}
        assert tiles[built.plan.layers[1].name] == tile
        assert_answers(engine, images, expected)


def _packed(engine):
    return [(layer, engine._runner.packed[layer.name]) for layer in engine.plan.layers]


@both_precisions
@both_paths
@pytest.mark.parametrize("channels", CHANNELS)
def test_channels_need_not_fill_words(instruction_set, precision, path, channels):
    built = Builder(height=2, width=3, precision=precision, seed=channels)
    built.layer(channels)
    built.layer(channels, 3)
    built.add("layer0.spikes")
    built.layer(7)
    built.head()
    assert_equals_reference(
        built, built.images(3), threads=1, instruction_set=instruction_set, path=path
    )


@both_paths
@pytest.mark.parametrize(
    "sides", [(1, 1), (1, 5), (5, 1), (2, 2), (7, 9), (9, 8), (1, 70), (70, 1)]
)
def test_images_may_have_any_sides(instruction_set, path, sides):
    built = Builder(height=sides[0], width=sides[1], precision="int8", steps=2)
    built.layer(5, 3)
    built.pool()
    built.layer(9, 3)
    built.pool()
    built.head()
    assert_equals_reference(
        built, built.images(2), threads=2, instruction_set=instruction_set, path=path
    )


@both_precisions
@both_paths
@pytest.mark.parametrize("bias", [-1000.0, 1000.0])
def test_silence_and_a_spike_everywhere(instruction_set, precision, path, bias):
    built = Builder(height=3, width=3, precision=precision)
    rates = []
    for _ in range(2):
        built.layer(66, 3, bias=bias)
        rates.append(built.last)
        built.layer(33, 3)
    built.head()
    images = built.images(2)
    assert_equals_reference(built, images, threads=1, instruction_set=instruction_set, path=path)
    expected = reference(built.plan, built.arrays, images)
    assert {expected.values[name].mean() for name in rates} == {float(bias > 0)}


@both_precisions
@both_paths
@pytest.mark.parametrize("kernel", [1, 3])
def test_counts_reach_255(instruction_set, precision, path, kernel):
    built = Builder(height=3, width=2, precision=precision)
    built.layer(67)
    counts = counts_up_to_255(built)
    built.layer(40, kernel, neuron=Neuron("sum", threshold=5.0))
    spikes = built.last
    built.head()
    images = built.images(2)
    expected = reference(built.plan, built.arrays, images)
    assert expected.values[counts].max() == 255
    assert 0 < expected.values[spikes].mean() < 1
    assert_equals_reference(built, images, threads=1, instruction_set=instruction_set, path=path)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_that_overflow_16_bits_do_not(instruction_set, kernel, sign):
    # Each of 300 channels or more fires, all weights are 127: beyond 258 rows int16 wraps around.
    built = Builder(height=2, width=3, precision="int8")
    built.layer(300, bias=1000.0)
    built.layer(65, kernel)
    name = built.plan.layers[1].name
    built.arrays[f"{name}.weight"][...] = sign * 127
    built.arrays[f"{name}.weight"][..., 1::2] = -128 * sign if sign > 0 else 127
    built.arrays[f"{name}.scale"][...] = 2.0**-15
    built.arrays[f"{name}.bias"][...] = np.linspace(-3, 3, 65)
    built.head()
    images = built.images(2)
    expected = reference(built.plan, built.arrays, images)
    sums = expected.values["layer0.spikes"][0, 0, :, 0, 0] @ built.arrays[f"{name}.weight"].astype(
        np.int64
    )
    assert (np.abs(sums) > np.iinfo(np.int16).max).all()
    wrapped = sums.astype(np.int16) * 2.0**-15 + built.arrays[f"{name}.bias"]
    kept = sums * 2.0**-15 + built.arrays[f"{name}.bias"]
    assert ((wrapped >= 2) != (kept >= 2)).any()  # the first step fires from a current of 2 on
    assert_equals_reference(
        built, images, threads=1, instruction_set=instruction_set, path="events"
    )


@SOME
@given(
    largest=st.sampled_from([1, 60, 100, 126, 127]),
    events=st.integers(250, 520),
    seed=st.integers(0, 2**16),
    kernel=st.sampled_from([1, 3]),
)
def test_sums_near_the_edge_of_16_bits_are_exact(instruction_set, largest, events, seed, kernel):
    built = Builder(height=2, width=2, steps=1, precision="int8", largest=largest, seed=seed)
    built.layer(events, bias=1000.0)
    built.layer(40, kernel)
    name = built.plan.layers[1].name
    signs = np.where(np.arange(40) % 2, 1, -1)
    built.arrays[f"{name}.weight"][...] = np.abs(built.arrays[f"{name}.weight"]) * signs
    built.arrays[f"{name}.weight"][:, : events // 2] = largest * signs
    inside = [0] if kernel == 1 else [4, 5, 7, 8]  # the taps over the image's first pixel
    sums = built.arrays[f"{name}.weight"][inside].astype(np.int64).sum((0, 1))
    # Currents just around the threshold: were a sum off by one, spikes would differ.
    built.arrays[f"{name}.scale"][...] = 1.0
    near = built.random.integers(-1, 2, 40) - sums + 2
    built.arrays[f"{name}.bias"][...] = near
    built.head()
    assert_equals_reference(
        built, built.images(1), threads=1, instruction_set=instruction_set, path="events"
    )


@pytest.mark.parametrize("width", HEAD_WIDTHS)
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("tokens", [(2, 2), (9, 13)])
def test_heads_may_have_any_width_and_either_order(instruction_set, width, heads, tokens):
    built = Builder(height=tokens[0], width=tokens[1], steps=2, seed=width)
    built.layer(3 * heads * width)
    # At rates of a half, an eighth of all products of three spikes are one; some heads are poorer.
    strong = tokens[0] * tokens[1] * width / 16
    spikes = built.attention(heads, scale=1.0, neuron=Neuron("sum", threshold=strong))
    built.head()
    images = built.images(2)
    engine = assert_equals_reference(built, images, threads=2, instruction_set=instruction_set)
    prepared = engine._runner.fresh(Call(1, 1, 2))
    assert prepared.operations[1].keys_first == (width < tokens[0] * tokens[1])
    assert width == 1 or 0 < engine.trace(images)[spikes].mean() < 1


def test_both_orders_of_attention_meet_the_same_shapes():
    orders = {width < tokens for width in HEAD_WIDTHS for tokens in (4, 117)}
    assert orders == {True, False}


@pytest.mark.parametrize("pool", [1, 3, 5, 9])
@pytest.mark.parametrize("width", [5, 64, 70])
def test_attention_pools_queries_and_keys(instruction_set, pool, width):
    built = Builder(height=3, width=3, steps=2, seed=pool)
    built.layer(3 * 2 * width, bias=0.3)
    built.attention(2, pool=pool, scale=0.125)
    built.head()
    assert_equals_reference(built, built.images(9), threads=2, instruction_set=instruction_set)


@both_paths
@pytest.mark.parametrize("charge", CHARGES)
@pytest.mark.parametrize("soft_reset", [False, True])
@SOME
@given(neuron=neurons(), seed=st.integers(0, 2**16))
def test_every_neuron_is_its_formula(instruction_set, path, charge, soft_reset, neuron, seed):
    neuron = replace(neuron, charge=charge, soft_reset=soft_reset)
    built = Builder(height=2, width=2, steps=5, precision="int8", neuron=neuron, seed=seed)
    built.layer(20)
    built.layer(50)
    built.layer(3 * 7)
    built.attention(1)
    built.head()
    assert_equals_reference(
        built, built.images(2), threads=1, instruction_set=instruction_set, path=path
    )


def test_the_definition_of_a_neuron_by_hand():
    # tau 2, threshold 1, rest 0: from 1.5, 1.5, 1.5 come 0.75, 1.125 which fires, and 0.75.
    spikes = fire(Neuron(), np.array([1.5, 1.5, 1.5], np.float32)[:, None])
    assert spikes.ravel().tolist() == [0, 1, 0]
    # No leak, soft reset: 0.75, 1.5 fires and leaves 0.5, 1.25 fires and leaves 0.25.
    soft = Neuron("sum", soft_reset=True)
    spikes = fire(soft, np.array([0.75, 0.75, 0.75], np.float32)[:, None])
    assert spikes.ravel().tolist() == [0, 1, 1]
    # On the threshold it fires.
    assert fire(Neuron("sum"), np.ones((1, 1), np.float32)).item() == 1


def test_the_definition_of_a_network_by_hand():
    # One pixel, one channel in each of two layers, and both weights are 1.
    built = Builder(channels=1, height=1, width=1, steps=2, neuron=Neuron("sum"))
    built.layer(1)
    built.layer(1)
    built.add("layer0.spikes")
    built.head(1)
    for layer in built.plan.layers:
        built.arrays[f"{layer.name}.weight"][...] = 1
    built.arrays["layer0.bias"][...] = 0
    built.arrays["layer1.bias"][...] = -0.5
    built.arrays["head.weight"][...] = 2
    built.arrays["head.bias"][...] = 1
    image = np.full((1, 1, 1, 1), 1.0, np.float32)
    answer = reference(built.plan, built.arrays, image)
    # The first fires at both steps; the second gets 0.5 a step, and fires at the second one.
    assert answer.values["layer0.spikes"].ravel().tolist() == [1, 1]
    assert answer.values["layer1.spikes"].ravel().tolist() == [0, 1]
    assert answer.values["sum2"].ravel().tolist() == [1, 2]
    assert answer.step_logits.ravel().tolist() == [3, 5]
    assert answer.logits.ravel().tolist() == [4]


@both_precisions
def test_threads_change_nothing(instruction_set, precision):
    built = Builder(height=9, width=9, precision=precision)
    built.layer(70, 3)
    built.layer(3 * 2 * 20, 3)
    built.attention(2)
    built.head()
    images = built.images(9)
    expected = reference(built.plan, built.arrays, images)
    for threads in (1, 2, 3, 5):
        engine = Engine(built.plan, built.arrays, threads=threads, instruction_set=instruction_set)
        for _ in range(3):
            assert_answers(engine, images, expected)


@both_precisions
def test_batches_of_every_size_equal_single_images(instruction_set, precision):
    built = Builder(height=3, width=3, precision=precision)
    built.layer(70, 3)
    built.layer(65, 3)
    built.head()
    images = built.images(17)
    engine = Engine(built.plan, built.arrays, threads=2, instruction_set=instruction_set)
    single = np.concatenate([engine(image[None]) for image in images])
    for size in range(1, 18):
        np.testing.assert_array_equal(engine(images[:size]), single[:size])


@both_precisions
@both_paths
def test_silent_biases_leave_the_bias_of_the_head(instruction_set, precision, path):
    built = Builder(height=4, width=4, precision=precision)
    built.layer(70, 3, bias=-1000.0)
    built.layer(3 * 2 * 20, 3, bias=-1000.0)
    built.attention(2)
    built.layer(70, bias=-1000.0)
    built.add("layer0.spikes")
    built.head()
    images = built.images(9)
    engine = Engine(built.plan, built.arrays, threads=2, instruction_set=instruction_set, path=path)
    assert not any(value.any() for value in engine.trace(images).values())
    for logits in (*engine(images), *engine.forward_steps(images).reshape(-1, 4)):
        np.testing.assert_array_equal(logits, built.arrays["head.bias"])


FORKED = """
import os, sys
import numpy as np
from helpers.plans import Builder
from spikformer.engine import Engine

built = Builder(height=5, width=5)
built.layer(70, 3)
built.layer(70, 3)
built.head()
images = built.images(9)
engine = Engine(built.plan, built.arrays, threads=3)
expected = engine(images)
child = os.fork()
if not child:
    os._exit(0 if np.array_equal(engine(images), expected) else 1)
_, status = os.waitpid(child, 0)
assert np.array_equal(engine(images), expected)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_answers_too():
    # Threads do not live on in it: it must make its own, or wait for ever.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
