"""Event files as cameras and other programs write them, from events."""

import struct
from pathlib import Path

import numpy as np

from spikformer.data import cifar10dvs
from spikformer.data.events import Events

AEDAT2_HEADER = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n#End of Preferences\r\n"
)
USERS = {"train": ["user01_led", "user02_lab", "user03_led"], "test": ["user24_led"]}
"""Trials that `write_dvs128gesture` writes."""
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: Test\r\n#!END-HEADER\r\n"


def events(*rows):
    """Events from (t, x, y, p)."""
    t, x, y, p = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Events(np.array(t, "i8"), np.array(x, "u2"), np.array(y, "u2"), np.array(p, "u1"))


def rows(found):
    return list(zip(*(getattr(found, f).tolist() for f in "txyp"), strict=True))


def random_events(count, side=128, span=1_000_000, seed=0):
    draw = np.random.default_rng(seed)
    return Events(
        np.sort(draw.integers(0, span, count)),
        draw.integers(0, side, count).astype("u2"),
        draw.integers(0, side, count).astype("u2"),
        draw.integers(0, 2, count).astype("u1"),
    )


def aedat2(found, header=AEDAT2_HEADER):
    address = found.p.astype("u4") | found.x.astype("u4") << 1 | found.y.astype("u4") << 8
    pairs = np.stack([address, found.t.astype("u4")], 1)
    return header + pairs.astype(">u4").tobytes()


def packet(found, overflow=0, valid=True):
    """A packet of polarity events, whose times are those after the last overflow."""
    data = found.x.astype("u4") << 17 | found.y.astype("u4") << 2 | found.p.astype("u4") << 1
    data |= np.uint32(valid)
    pairs = np.stack([data, (found.t - (overflow << 31)).astype("u4")], 1).astype("<u4")
    count = len(found)
    return _head(1, 8, overflow, count, count if valid else 0) + pairs.tobytes()


def other_packet(kind=3, size=36, count=2):
    """A packet of another type: IMU samples, say."""
    return _head(kind, size, 0, count, count) + bytes(range(size)) * count


def _head(kind, size, overflow, count, valid):
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, count, count, valid)


def aedat3(*packets, header=AEDAT3_HEADER):
    return header + b"".join(packets)


def nmnist(found):
    t = found.t
    columns = (found.x, found.y, found.p << 7 | t >> 16, t >> 8 & 255, t & 255)
    return np.stack([np.asarray(c, "u1") for c in columns], 1).tobytes()


def npz(path: Path, found, compressed=False, **others):
    save = np.savez_compressed if compressed else np.savez
    save(path, **{f: getattr(found, f) for f in "txyp"} | others)
    return path.read_bytes()


def write_cifar10dvs(root: Path):
    """The official layout, with the same small recording everywhere."""
    content = root / "recording"
    content.write_bytes(aedat2(random_events(60, 128, 9_000)))
    for name in cifar10dvs.CLASSES:
        folder = root / "cifar10dvs" / name
        folder.mkdir(parents=True)
        for n in range(cifar10dvs.PER_CLASS):
            (folder / f"cifar10_{name}_{n}.aedat").hardlink_to(content)


def write_dvs128gesture(root: Path):
    """The official layout: recordings of eleven clips each."""
    folder = root / "DvsGesture"
    folder.mkdir()
    lines = [f"{k + 1},{800 * k},{800 * k + 700}" for k in range(11)]
    labels = "\n".join(["class,startTime_usec,endTime_usec", *lines]) + "\n"
    for part, names in USERS.items():
        (folder / f"trials_to_{part}.txt").write_text("\n".join(f"{n}.aedat" for n in names) + "\n")
        for name in names:
            recorded = packet(random_events(60, 128, 9_000))
            (folder / f"{name}.aedat").write_bytes(aedat3(recorded))
            (folder / f"{name}_labels.csv").write_text(labels)


def write_nmnist(root: Path, train=4, test=2):
    """The official layout; each digit has events of its own seed."""
    for part, count in {"Train": train, "Test": test}.items():
        for label in range(10):
            folder = root / "nmnist" / part / str(label)
            folder.mkdir(parents=True)
            for n in range(count):
                draw = random_events(50, 34, 300_000, seed=label)
                (folder / f"{n:05}.bin").write_bytes(nmnist(draw))
