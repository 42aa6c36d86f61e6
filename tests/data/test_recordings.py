import multiprocessing

import numpy as np
import pytest
import torch
from helpers.recordings import nmnist, random_events

from spikformer.data.events import EventFileError, Events
from spikformer.data.frames import Slicing, to_frames
from spikformer.data.recordings import Reading, Recording, Recordings
from spikformer.errors import ConfigError, DataError

SIDE = 12
SLICING = Slicing(by="count", number=3)
ALL = torch.arange(4)


def mirrored(events):
    return Events(events.t, SIDE - 1 - events.x, events.y, events.p)


@pytest.fixture
def files(tmp_path):
    recordings = []
    for seed in range(3):
        path = tmp_path / f"{seed}.bin"
        path.write_bytes(nmnist(random_events(100, SIDE, 50_000, seed)))
        clips = ((0, 20_000), (20_000, 50_000)) if seed == 1 else None
        recordings.append(Recording(path, clips))
    return recordings


def reading(slicing=SLICING, turn=None):
    return Reading(slicing, (SIDE, SIDE), turn)


def entries(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_frames_are_those_of_the_clips(files):
    found = Recordings(files, reading())
    events = [random_events(100, SIDE, 50_000, seed) for seed in range(3)]
    clips = [events[0], events[1].between(0, 20_000), events[1].between(20_000, 50_000), events[2]]
    want = np.stack([to_frames(clip, SLICING, (SIDE, SIDE)) for clip in clips])
    assert found.shape == (4, 3, 2, SIDE, SIDE)
    assert found[ALL].dtype == torch.float32
    assert torch.equal(found[ALL], torch.from_numpy(want).float())
    assert torch.equal(found[torch.tensor(2)], found[ALL][2])
    assert torch.equal(found[torch.tensor([[3], [0]])], found[ALL][[3, 0]][:, None])
    assert found[ALL[:0]].shape == (0, 3, 2, SIDE, SIDE)
    part = found.part(np.array([3, 1]))
    assert part.shape[0] == 2
    assert torch.equal(part[torch.tensor([1, 0])], found[torch.tensor([1, 3])])


def test_kept_frames_are_the_same_and_files_are_not_read_again(files, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = Recordings(files, reading(), cache)[ALL]
    assert len(entries(cache)) == 3
    monkeypatch.setattr("spikformer.data.recordings.read_events", None)
    assert torch.equal(Recordings(files, reading(), cache)[ALL], first)


def test_frames_are_not_kept_by_a_function_without_a_name():
    with pytest.raises(ConfigError, match="turn must be a function with a name of its own"):
        reading(turn=lambda found: found)


@pytest.mark.parametrize(
    "other",
    [
        reading(Slicing(by="time", number=3)),
        reading(Slicing(by="count", number=4)),
        reading(turn=mirrored),
        Reading(SLICING, (SIDE, SIDE + 1)),
    ],
)
def test_everything_that_shapes_frames_is_in_their_key(files, tmp_path, other):
    Recordings(files, reading(), tmp_path / "cache")[ALL]
    kept = Recordings(files, other, tmp_path / "cache")[ALL]
    assert torch.equal(kept, Recordings(files, other)[ALL])
    assert len(entries(tmp_path / "cache")) == 6


def test_other_clips_or_a_changed_file_are_read_anew(files, tmp_path):
    cache = tmp_path / "cache"
    Recordings(files, reading(), cache)[ALL]
    clipped = [Recording(files[0].path, ((0, 10_000),))]
    assert torch.equal(
        Recordings(clipped, reading(), cache)[ALL[:1]], Recordings(clipped, reading())[ALL[:1]]
    )
    files[0].path.write_bytes(nmnist(random_events(99, SIDE, 50_000, seed=9)))
    fresh = Recordings(files, reading(), cache)[ALL[:1]]
    assert torch.equal(fresh, Recordings(files, reading())[ALL[:1]])
    assert fresh.sum() == 99


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "header", "type", "text", "sums"])
def test_a_damaged_entry_is_made_again(files, tmp_path, damage):
    cache = tmp_path / "cache"
    whole = Recordings(files, reading(), cache)[ALL]
    for entry in entries(cache):
        good = entry.read_bytes()
        bad = bytearray(good)
        bad[{"flip": -30, "header": 15, "sums": -1}.get(damage, 0)] ^= 0x55
        signed = good.replace(b"|u1", b"|i1")
        cases = {"cut": good[:-40], "empty": b"", "text": b"not frames", "type": signed}
        assert signed != good
        entry.write_bytes(cases.get(damage, bytes(bad)))
    found = Recordings(files, reading(), cache)
    assert torch.equal(found[ALL], whole)
    assert torch.equal(found[ALL], whole)
    assert len(entries(cache)) == 3


def test_counts_of_every_size_are_kept_exactly(tmp_path):
    draw = np.zeros(70_000, np.int64)
    path = tmp_path / "hot.npz"
    np.savez(path, t=draw, x=draw, y=draw, p=draw)
    for number in (1, 10, 500):
        slicing = Slicing(by="count", number=number)
        found = Recordings([Recording(path)], Reading(slicing, (2, 2)), tmp_path / "cache")
        for _ in range(2):
            assert found[ALL[:1]][0, :, 0, 0, 0].tolist() == [70_000 / number] * number


def _read_all(files, cache, results):
    results.put(Recordings(files, reading(), cache)[ALL].sum((1, 2, 3, 4)).tolist())


def test_processes_share_a_cache(files, tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    cache = tmp_path / "cache"
    others = [context.Process(target=_read_all, args=(files, cache, results)) for _ in range(3)]
    for process in others:
        process.start()
    found = [results.get() for _ in others]
    for process in others:
        process.join()
    assert found == [Recordings(files, reading())[ALL].sum((1, 2, 3, 4)).tolist()] * 3
    assert [path.suffix for path in entries(cache)] == [".npy"] * 3


def test_a_cache_that_cannot_be_written_is_done_without(files, tmp_path):
    cache = tmp_path / "file"
    cache.touch()
    with pytest.warns(UserWarning, match="frames are not kept"):
        found = Recordings(files, reading(), cache)[ALL]
    assert torch.equal(found, Recordings(files, reading())[ALL])


def test_a_damaged_recording_is_named(files, tmp_path):
    files[2].path.write_bytes(files[2].path.read_bytes()[:-1])
    with pytest.raises(EventFileError, match=r"2\.bin, byte 495: 4 of an event's 5 bytes"):
        Recordings(files, reading(), tmp_path / "cache")[ALL]


def test_an_event_beside_the_sensor_names_its_file(files):
    with pytest.raises(
        DataError, match=r"0\.bin: event \d+ is at column \d+, row \d+: outside 4 x 4"
    ):
        Recordings(files, Reading(SLICING, (4, 4)))[ALL]


def test_frames_of_a_batch_must_be_equally_many():
    with pytest.raises(ConfigError, match="the same number of frames"):
        reading(Slicing(by="time", every=1000))
