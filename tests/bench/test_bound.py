import pytest

from spikformer.bench.bound import bound, prototype_additions

LAYER = {"name": "a", "kind": "layer", "path": "events", "macs": 1e9, "silent_seconds": 0.5}


def test_the_prototypes_additions_are_its_speed_times_its_rate():
    assert prototype_additions("int8", 0.05) == pytest.approx((127.5, 152.0))
    assert prototype_additions("float32", 0.25) == pytest.approx((72.5, 97.5))


def test_between_measured_rates_lies_a_straight_line_and_beyond_nothing_new():
    middle = (127.5 + 148.0) / 2, (152.0 + 186.0) / 2
    assert prototype_additions("int8", 0.075) == pytest.approx(middle)
    assert prototype_additions("int8", 0.0) == prototype_additions("int8", 0.05)
    assert prototype_additions("int8", 2.5) == prototype_additions("int8", 0.25)


def test_a_layer_is_bound_by_its_additions_and_its_neurons():
    row = LAYER | {"rate": 0.05, "additions": 5e7, "seconds": 9.0}
    found = bound("int8", [row], None)
    assert found.seconds["a"] == pytest.approx(0.5 + (5e7 / 127.5e9 + 5e7 / 152e9) / 2)
    assert found.slowest < found.images_per_second < found.fastest


def test_a_silent_layer_is_bound_by_its_neurons_alone():
    row = LAYER | {"rate": 0.0, "additions": 0.0, "seconds": 9.0}
    assert bound("float32", [row], None).images_per_second == pytest.approx(2.0)


def test_dense_layers_pixels_and_the_rest():
    dense = LAYER | {"path": "dense", "rate": 1.0, "additions": 1e9, "seconds": 9.0}
    assert bound("int8", [dense], 4.0).seconds["a"] == pytest.approx(0.25)
    assert bound("int8", [dense], None).seconds["a"] == 9.0
    pixels = LAYER | {"path": "dense", "rate": None, "additions": None, "seconds": 0.125}
    pool = {"name": "b", "kind": "pool", "seconds": 0.375, "silent_seconds": 0.1}
    assert bound("int8", [pixels, pool], 4.0).images_per_second == pytest.approx(2.0)
