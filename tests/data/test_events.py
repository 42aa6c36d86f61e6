import itertools
import re
import tracemalloc
import warnings

import numpy as np
import pytest
from helpers.recordings import (
    AEDAT2_HEADER,
    AEDAT3_HEADER,
    aedat2,
    aedat3,
    events,
    nmnist,
    npz,
    other_packet,
    packet,
    random_events,
    rows,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from spikformer.data import _event_files
from spikformer.data.events import EventFileError, Events, read_events, stream_events
from spikformer.errors import ConfigError, DataError

FORMATS = ("aedat2", "aedat3", "nmnist", "npz")
SUFFIX = {"aedat2": ".aedat", "aedat3": ".aedat", "nmnist": ".bin", "npz": ".npz"}
FEW = random_events(40)


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def content_of(format, found, folder):
    make = {"aedat2": aedat2, "aedat3": lambda e: aedat3(packet(e)), "nmnist": nmnist}
    return make[format](found) if format in make else npz(folder / "made.npz", found)


@pytest.mark.parametrize("format", FORMATS)
def test_events_come_back_as_they_were_written(tmp_path, format):
    path = written(tmp_path, f"e{SUFFIX[format]}", content_of(format, FEW, tmp_path))
    found = read_events(path)
    assert rows(found) == rows(FEW)
    assert [getattr(found, f).dtype for f in "txyp"] == ["i8", "u2", "u2", "u1"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_recording_without_events_is_none(tmp_path, format):
    path = written(tmp_path, f"e{SUFFIX[format]}", content_of(format, events(), tmp_path))
    assert len(read_events(path)) == 0


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_read_in_pieces(tmp_path, monkeypatch, format):
    monkeypatch.setattr(_event_files, "CHUNK", 7)
    monkeypatch.setattr("spikformer.data._aedat.CHUNK", 7)
    path = written(tmp_path, f"e{SUFFIX[format]}", content_of(format, FEW, tmp_path))
    pieces = list(stream_events(path))
    assert len(pieces) > (2 if format == "npz" else 5) - 1
    assert rows(read_events(path)) == rows(FEW)


def test_the_bytes_of_each_format_by_hand(tmp_path):
    # column 3, row 5, polarity 1, time 0x010203
    want = [(0x010203, 3, 5, 1)]
    by_hand = {
        "a.bin": bytes([3, 5, 0x81, 0x02, 0x03]),
        "b.aedat": AEDAT2_HEADER + bytes([0, 0, 5, 3 << 1 | 1, 0, 1, 2, 3]),
        "c.aedat": AEDAT3_HEADER
        + bytes([1, 0, 1, 0, 8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0] + [1, 0, 0, 0] * 3)
        + bytes([5 << 2 | 1 << 1 | 1, 0, 3 << 1, 0, 3, 2, 1, 0]),
    }
    for name, content in by_hand.items():
        assert rows(read_events(written(tmp_path, name, content))) == want


def test_a_clock_of_32_bits_that_begins_anew_goes_on(tmp_path):
    t = [k * 2**29 for k in (7, 8, 9, 11, 13, 15, 17)]
    path = written(tmp_path, "e.aedat", aedat2(events(*((x % 2**32, 0, 0, 0) for x in t))))
    assert read_events(path).t.tolist() == t


@pytest.mark.parametrize("pieces", [1 << 20, 3, 1])
@pytest.mark.parametrize("wild", [10**9, 2**32 - 9])
def test_a_clock_that_jumps_is_damage(tmp_path, monkeypatch, pieces, wild):
    monkeypatch.setattr(_event_files, "CHUNK", pieces)
    times = [wild if k == 7 else 3 * 10**9 + k for k in range(12)]
    content = aedat2(events(*((t, 0, 0, 0) for t in times)))
    path = written(tmp_path, "e.aedat", content)
    with pytest.raises(EventFileError, match=r"time jumps by -?\d+ s") as caught:
        read_events(path)
    assert caught.value.offset == len(content) - 8 * 5 + 4
    with pytest.warns(UserWarning, match="the events before it are kept"):
        assert read_events(path, on_error="truncate").t.tolist() == times[:7]


@pytest.mark.parametrize("counters", [(0, 7), (1, 0)])
def test_a_count_of_overflows_that_jumps_is_damage(tmp_path, counters):
    content = aedat3(*(packet(events((5 + (n << 31), 1, 2, 1)), overflow=n) for n in counters))
    with pytest.raises(EventFileError, match="overflows go from {} to {}".format(*counters)):
        read_events(written(tmp_path, "e.aedat", content))


def test_a_clock_that_steps_back_a_little_is_left_so(tmp_path):
    path = written(tmp_path, "e.aedat", aedat2(events((100, 0, 0, 0), (90, 0, 0, 0))))
    assert read_events(path).t.tolist() == [100, 90]


def test_overflows_of_31_bits_are_counted_and_other_packets_passed_over(tmp_path):
    first, second = events((5, 1, 2, 1)), events((2**31 + 7, 3, 4, 0), (2**31 + 9, 5, 6, 1))
    content = aedat3(
        other_packet(), packet(first), other_packet(kind=0, size=8), packet(second, overflow=1)
    )
    assert rows(read_events(written(tmp_path, "e.aedat", content))) == rows(first) + rows(second)


def test_invalid_events_count_unless_they_shall_not(tmp_path):
    content = aedat3(packet(FEW[:3]), packet(FEW[3:], valid=False))
    path = written(tmp_path, "e.aedat", content)
    assert rows(read_events(path)) == rows(FEW)
    assert rows(read_events(path, valid_only=True)) == rows(FEW[:3])


def test_special_addresses_are_no_events(tmp_path):
    content = bytearray(aedat2(FEW[:3]))
    content[len(AEDAT2_HEADER) + 8 + 2] |= 0x80
    found = read_events(written(tmp_path, "e.aedat", content))
    assert rows(found) == [rows(FEW)[0], rows(FEW)[2]]


def test_overflow_markers_of_nmnist_move_the_clock(tmp_path):
    marked = events((1, 3, 4, 0), (0, 0, 240, 0), (2, 5, 6, 1), (0, 0, 240, 0), (3, 7, 8, 1))
    found = read_events(written(tmp_path, "e.bin", nmnist(marked)))
    assert rows(found) == [(1, 3, 4, 0), (2 + 2**13, 5, 6, 1), (3 + 2**14, 7, 8, 1)]


@pytest.mark.parametrize("lines", [0, 1, 84, 3000])
def test_a_header_may_have_any_length(tmp_path, lines):
    header = b"#!AER-DAT2.0\r\n" + b"# <node name=x/>\r\n" * lines
    assert rows(read_events(written(tmp_path, "e.aedat", aedat2(FEW, header)))) == rows(FEW)


@pytest.mark.parametrize("cut", range(len(packet(FEW[:4]))))
def test_a_file_cut_within_its_last_packet_keeps_the_events_before(tmp_path, cut):
    whole = aedat3(other_packet(), packet(FEW[:5]))
    path = written(tmp_path, "e.aedat", whole + packet(FEW[5:9])[:cut])
    complete = max(cut - 28, 0) // 8
    if cut == 0:
        assert rows(read_events(path)) == rows(FEW[:5])
        return
    with pytest.raises(EventFileError) as caught:
        read_events(path)
    assert caught.value.path == path
    assert caught.value.offset == len(whole) + (28 + 8 * complete if cut >= 28 else 0)
    with pytest.warns(UserWarning, match=rf"byte {caught.value.offset}: .*the events before"):
        found = read_events(path, on_error="truncate")
    assert rows(found) == rows(FEW[: 5 + complete])


@pytest.mark.parametrize("format", ["aedat2", "nmnist"])
def test_a_file_cut_within_an_event_keeps_the_events_before(tmp_path, format):
    content = content_of(format, FEW, tmp_path)
    size = {"aedat2": 8, "nmnist": 5}[format]
    for cut in range(1, size):
        path = written(tmp_path, f"e{SUFFIX[format]}", content[:-cut])
        with pytest.raises(EventFileError, match=f"byte {len(content) - size}: {size - cut} of"):
            read_events(path)
        with pytest.warns(UserWarning, match="the events before it are kept"):
            assert rows(read_events(path, on_error="truncate")) == rows(FEW[:-1])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.aedat", aedat2(FEW) + b"\0\1\0\0\0\0\0\0", "0x10000 is no address of a DVS128"),
        ("b.aedat", b"#!AER-DAT2.0\r\n# never", "a line of the header does not end"),
        ("c.aedat", AEDAT3_HEADER[:-14] + b"data\n", "the header has no end"),
        ("d.aedat", aedat3(b"\1\0" + b"\xff" * 26), "this is not the header of a packet"),
        ("e.aedat", aedat3(packet(FEW)[:30]), "the file ends within a packet"),
        ("f.aedat", aedat3(other_packet()[:-1]), "the file ends within a packet of 2 events"),
        ("g.npz", b"PK\3\4 and then nothing", "a damaged archive"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, name, content, reason):
    path = written(tmp_path, name, content)
    with pytest.raises(EventFileError, match=rf"^{re.escape(str(path))}, byte \d+: {reason}"):
        read_events(path)


def test_a_negative_time_is_damage(tmp_path):
    content = bytearray(aedat3(packet(FEW)))
    content[len(AEDAT3_HEADER) + 28 + 8 * 3 + 7] |= 0x80
    path = written(tmp_path, "e.aedat", content)
    with pytest.raises(EventFileError, match="an event's time is negative") as caught:
        read_events(path)
    assert caught.value.offset == len(AEDAT3_HEADER) + 28 + 8 * 3
    with pytest.warns(UserWarning, match="the events before it are kept"):
        assert rows(read_events(path, on_error="truncate")) == rows(FEW[:3])


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"p": np.full(40, 2)}, "p is 2 to 2, not 0 to 1"),
        ({"x": np.full(40, -1)}, "x is -1 to -1"),
        ({"t": np.zeros(40)}, r"t is float64 \[40\], not integers"),
        ({"y": np.zeros((40, 1), "u2")}, r"y is uint16 \[40, 1\]"),
        ({"t": np.zeros(3, "i8")}, r"have \[3, 40, 40, 40\] events"),
        ({"t": np.array([None] * 40)}, "t is no array"),
    ],
)
def test_an_archive_must_hold_four_equal_rows_of_integers(tmp_path, others, reason):
    npz(tmp_path / "e.npz", FEW, **others)
    with pytest.raises(EventFileError, match=reason):
        read_events(tmp_path / "e.npz")


def test_an_archive_without_times_is_named(tmp_path):
    np.savez(tmp_path / "e.npz", x=FEW.x)
    with pytest.raises(EventFileError, match="an archive without t"):
        read_events(tmp_path / "e.npz")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_events(tmp_path / "none.aedat")
    with pytest.raises(DataError, match=r"is AEDAT 4\.0: only 2\.0 and 3\.1 are read"):
        read_events(written(tmp_path, "e.aedat4", b"#!AER-DAT4.0\r\n"))
    with pytest.raises(DataError, match="is in no known format of events: give format="):
        read_events(written(tmp_path, "e.csv", b"t,x,y,p\n"))
    with pytest.raises(ConfigError, match="unknown event format 'aedat'; did you mean"):
        read_events(written(tmp_path, "e.bin", b""), "aedat")


def test_a_format_that_is_named_needs_no_suffix(tmp_path):
    assert rows(read_events(written(tmp_path, "e.dat", nmnist(FEW)), "nmnist")) == rows(FEW)


def test_a_window_of_time_has_its_start_and_not_its_end():
    found = events((1, 0, 0, 0), (2, 0, 0, 0), (5, 0, 0, 0), (3, 0, 0, 0))
    assert found.between(2, 5).t.tolist() == [2, 3]


MUTANTS = {
    "aedat2": aedat2(FEW),
    "aedat3": aedat3(packet(FEW[:20]), other_packet(), packet(FEW[20:])),
    "nmnist": nmnist(FEW),
}


SMALLEST = {"aedat2": 8, "aedat3": 8, "nmnist": 5, "npz": 1}
"""Bytes of an event."""


@st.composite
def mutants(draw, content):
    """The content with bytes changed, and cut, or with something in between."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    start = draw(st.integers(0, len(changed)))
    kind = draw(st.sampled_from(["keep", "cut", "insert", "remove"]))
    if kind == "cut":
        return bytes(changed[:start])
    if kind == "insert":
        return bytes(changed[:start] + draw(st.binary(max_size=40)) + changed[start:])
    if kind == "remove":
        return bytes(changed[:start] + changed[start + draw(st.integers(1, 40)) :])
    return bytes(changed)


@pytest.mark.parametrize("format", [*FORMATS, "compressed npz"])
def test_damaged_files_end_in_events_or_in_one_clear_error(tmp_path, format):
    content = MUTANTS.get(format) or npz(tmp_path / "whole.npz", FEW, compressed="c" in format)
    format = format.split()[-1]
    path = tmp_path / f"e{SUFFIX[format]}"
    peaks = []

    @settings(max_examples=2000)
    @given(mutants(content))
    def check(mutant):
        path.write_bytes(mutant)
        found, damage = None, None
        tracemalloc.start()
        try:
            found = read_events(path, format)
        except EventFileError as error:
            damage = error
        assert damage is None or 0 <= damage.offset <= len(mutant)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            kept = read_events(path, format, on_error="truncate")
        assert len(said) == (found is None)
        if found is not None:
            assert rows(kept) == rows(found)
        assert len(kept) * SMALLEST[format] <= len(mutant)

    check()
    assert max(peaks) < 20 * len(content) + 80_000  # objects of Python and NumPy beside the arrays


def test_an_archive_that_is_mostly_air_is_refused(tmp_path):
    zeros = np.zeros(1_000_000, np.int64)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, t=zeros, x=zeros, y=zeros, p=zeros)
    tracemalloc.start()
    with pytest.raises(EventFileError, match="bytes that would unpack to 32000"):
        read_events(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("format", MUTANTS)  # an archive is read as a whole
def test_what_is_cut_off_a_file_is_all_that_is_lost(tmp_path, format):
    content = MUTANTS[format]
    path = tmp_path / f"e{SUFFIX[format]}"
    whole = rows(FEW)
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept = rows(read_events(path, format, on_error="truncate"))
        assert kept == whole[: len(kept)]


def test_real_recordings_hold_what_their_description_says(data_root):
    folder = data_root / "dvs"
    listed = [
        (10, 0, 0, 1), (25, 10, 20, 0), (38, 120, 59, 1), (48, 5, 9, 0), (59, 9, 5, 1),
        (102865, 15, 19, 1), (102898, 28, 36, 0), (119579, 32, 44, 1), (126562, 45, 59, 1),
        (2068981, 127, 127, 0), (2157619, 0, 15, 1), (2178812, 1, 1, 1),
    ]  # fmt: skip
    by_hand = folder / "small_samples" / "aedat31_aedat1_for_testing.aedat"
    assert rows(read_events(by_hand)) == listed
    assert rows(read_events(by_hand, valid_only=True)) == []
    described = {
        "dvs128_aedat2/alex_walking_again.aedat": (19_182, 6.89),
        "dvs128_aedat2/alex_walking_for_10secs.aedat": (125_028, 8.04),
    }
    for name, (count, seconds) in described.items():
        found = read_events(folder / name)
        assert len(found) == count
        assert (found.t[-1] - found.t[0]) / 1e6 == pytest.approx(seconds, abs=0.005)
        assert (np.diff(found.t) >= 0).all()
    small = read_events(folder / "small_samples" / "sample_nmnist.bin")
    assert (len(small), small.t[0], small.t[-1]) == (4_325, 654, 311_175)
    clips = [read_events(folder / "dvs128gesture_clips" / f"{n}.bs2") for n in range(1, 10)]
    assert (min(map(len, clips)), max(map(len, clips))) == (63_471, 181_179)


def test_real_events_survive_every_container(data_root, tmp_path):
    clip = read_events(data_root / "dvs" / "dvs128gesture_clips" / "3.bs2")
    late = Events(clip.t + (1 << 31) - 700_000, clip.x, clip.y, clip.p)
    middle = int(np.searchsorted(late.t, 1 << 31))
    packets = [
        packet(late[a:b], overflow=a >= middle)
        for a, b in itertools.pairwise([0, 5_000, middle, middle + 1, len(late)])
    ]
    content = aedat3(packets[0], other_packet(), *packets[1:])
    assert rows(read_events(written(tmp_path, "a.aedat", content))) == rows(late)
    assert rows(read_events(written(tmp_path, "b.aedat", aedat2(late)))) == rows(late)
    npz(tmp_path / "c.npz", late)
    assert rows(read_events(tmp_path / "c.npz")) == rows(late)
