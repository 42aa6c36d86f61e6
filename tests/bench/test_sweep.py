import json

import numpy as np
import pytest

from spikformer.bench.products import Products, Shape, dense_macs, typical_shapes
from spikformer.bench.sweep import ENGINES, OneLayer, Subject, Sweep, one_layer, sweep
from spikformer.engine import Engine, missing

SMALL = Subject("small", 3, 20, 70, 4)
needs_engine = pytest.mark.skipif(missing() is not None, reason="the engine was not built")


@needs_engine
@pytest.mark.parametrize("name", ENGINES)
def test_the_first_layer_hands_spikes_through(name):
    precision, path = ENGINES[name]
    frames = (np.random.default_rng(1).random((2, 4, 20, 4, 4)) < 0.3).astype(np.float32)
    traced = Engine(*one_layer(SMALL, precision), path=path).trace(frames)
    assert np.array_equal(traced["shown"], frames.swapaxes(0, 1))
    assert 0 < traced["spikes"].mean() < 1


@needs_engine
def test_int8_by_events_and_dense_are_the_same_layer():
    layer = OneLayer(SMALL, 256, 1)
    fired = [
        engine.trace(layer.frames)["spikes"]
        for name, engine in layer.engines.items()
        if "int8" in name
    ]
    assert np.array_equal(*fired)


@needs_engine
def test_a_sweep_at_tiny_shapes(capsys):
    (found,) = sweep(1, lambda _: None, rates=[0.0, 0.5], rows=64, subjects=[SMALL], rounds=2)
    assert found.shape == Shape(64, 180, 70)
    assert {*ENGINES, "float32", "bf16"} <= found.speeds.keys()
    for speeds in found.speeds.values():
        assert len(speeds) == 2
        assert all(0 < least <= median <= most for median, least, most in speeds)
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts["rates"] == [0.0, 0.5]


def test_dense_overtakes_where_the_times_cross():
    # Times 1/8 and 1/2 of events, always 1/4 of the dense product: they meet after a third.
    speeds = {"events": [(8.0, 8, 8), (2.0, 2, 2)], "dense": [(4.0, 4, 4), (4.0, 4, 4)]}
    found = Sweep("", Shape(1, 1, 1), (0.1, 0.4), speeds)
    assert found.crossover("events", "dense") == pytest.approx(0.2)
    assert found.crossover("dense", "dense") is None
    assert found.crossover("dense", "events") == 0.1


def test_silence_is_no_crossing():
    speeds = {"events": [(4.0, 4, 4), (4.0, 4, 4)], "dense": [(8.0, 8, 8), (2.0, 2, 2)]}
    found = Sweep("", Shape(1, 1, 1), (0.0, 0.3), speeds)
    assert found.crossover("events", "dense") is None


def test_shapes_and_dense_products_of_a_plan_by_hand():
    plan, _ = one_layer(SMALL, "int8")
    assert typical_shapes(plan, 100) == [Shape(100, 9 * 20, 70)]
    first, second = 16 * 20 * 20, 16 * 70 * 9 * 20
    assert dense_macs(plan, still=True, steps=4) == first + 4 * second
    assert dense_macs(plan, still=False, steps=3) == 3 * (first + second)


def test_dense_products_of_each_type():
    shape = Shape(64, 32, 48)
    products = Products([shape], 1)
    assert {"float32", "bf16"} <= products.turn().keys()
    assert all(speed > 0 for speed in products.of_all_shapes()[shape].values())
