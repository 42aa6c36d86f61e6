import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.recordings import events, random_events
from hypothesis import given
from hypothesis import strategies as st

from spikformer.data.events import read_events
from spikformer.data.frames import Slicing, to_frames
from spikformer.errors import ConfigError, DataError

EXPECTED = json.loads(Path(__file__).with_name("frames_by_spikingjelly.json").read_text())
"""Made by SpikingJelly 2.0's `integrate_events_by_fixed_frames_number` and `..._duration`, with its
own reader of `.bs2` files."""
SLICINGS = [Slicing(by=b, **{k: n}) for b in ("count", "time") for k in ("number", "every") for n in (1, 3, 50)]  # fmt: skip


def by_hand(found, bounds, side):
    frames = np.zeros((len(bounds) - 1, 2, side, side), int)
    for t, (a, b) in enumerate(pairwise(bounds)):
        for i in range(a, b):
            frames[t, found.p[i], found.y[i], found.x[i]] += 1
    return frames


@pytest.mark.parametrize("slicing", SLICINGS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 5, 47])
def test_every_event_is_counted_once_where_it_was(slicing, count):
    found = random_events(count, side=6, span=200)
    frames = to_frames(found, slicing, (6, 6))
    assert (frames == by_hand(found, slicing.bounds(found.t), 6)).all()
    assert frames.sum() == count
    assert frames.dtype == np.int32


def test_frames_of_equal_count_leave_the_rest_to_the_last():
    assert Slicing(by="count", number=3).bounds(np.arange(11)).tolist() == [0, 3, 6, 11]
    assert Slicing(by="count", number=3).bounds(np.arange(2)).tolist() == [0, 0, 0, 2]
    assert Slicing(by="count", every=4).bounds(np.arange(11)).tolist() == [0, 4, 8, 11]
    assert Slicing(by="count", every=4).bounds(np.arange(8)).tolist() == [0, 4, 8]


def test_frames_of_equal_time_leave_the_rest_to_the_last():
    t = np.array([100, 101, 109, 110, 125, 131])  # 31 microseconds, by three: 10 each
    assert Slicing(by="time", number=3).bounds(t).tolist() == [0, 3, 4, 6]
    assert Slicing(by="time", every=10).bounds(t).tolist() == [0, 3, 4, 5, 6]
    same = np.array([7, 7, 7])
    assert Slicing(by="time", number=2).bounds(same).tolist() == [0, 0, 3]
    assert Slicing(by="time", every=2).bounds(same).tolist() == [0, 3]


def test_a_slot_without_events_is_a_frame_of_zeros():
    found = events((0, 0, 0, 0), (1, 1, 1, 1), (99, 2, 2, 1))
    frames = to_frames(found, Slicing(by="time", number=4), (3, 3))
    assert frames.sum((1, 2, 3)).tolist() == [2, 0, 0, 1]


@pytest.mark.parametrize("slicing", SLICINGS, ids=str)
def test_no_events_are_no_counts(slicing):
    frames = to_frames(events(), slicing, (4, 5))
    assert frames.shape == (slicing.number or 0, 2, 4, 5)
    assert not frames.any()


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 9))
def test_time_slots_have_what_lies_in_them_in_whatever_order_it_comes(times, number):
    found = events(*((t, 0, 0, 0) for t in times))
    frames = to_frames(found, Slicing(by="time", number=number), (1, 1))
    span = (max(times) - min(times)) // number
    slots = [min((t - min(times)) // span, number - 1) if span else number - 1 for t in times]
    assert frames.sum((1, 2, 3)).tolist() == [slots.count(k) for k in range(number)]


def test_an_event_beside_the_sensor_is_refused():
    found = events((0, 3, 0, 0), (1, 0, 4, 1))
    with pytest.raises(DataError, match="event 1 is at column 0, row 4: outside 4 x 4"):
        to_frames(found, Slicing(by="count", number=1), (4, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": "count"}, "one of number and every must be given, got None and None"),
        ({"by": "time", "number": 2, "every": 3}, "one of number and every must be given"),
        ({"by": "time", "number": 0}, "number and every must be at least 1, got 0"),
        ({"by": "number", "number": 2}, "by must be 'count' or 'time', got 'number'"),
    ],
)
def test_slicings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Slicing(**fields)


@pytest.mark.parametrize(
    "expected", EXPECTED, ids=lambda e: f"{e['file']}-{e['by']}-{len(e['sums'])}"
)
def test_frames_of_real_recordings_are_those_of_the_published_data_path(data_root, expected):
    found = read_events(data_root / "dvs" / expected["file"])
    how = {k: expected[k] for k in ("number", "every") if k in expected}
    frames = to_frames(found, Slicing(by=expected["by"], **how), (expected["side"],) * 2)
    assert frames.sum((1, 2, 3)).tolist() == expected["sums"]
    assert hashlib.sha256(frames.astype("<i4").tobytes()).hexdigest() == expected["sha256"]


def test_a_wild_time_does_not_fill_the_memory():
    far = events((0, 1, 1, 0), (10**12, 1, 1, 0))
    with pytest.raises(DataError, match="1000000001 frames would fill 122070 GiB"):
        to_frames(far, Slicing(by="time", every=1000), (128, 128))
