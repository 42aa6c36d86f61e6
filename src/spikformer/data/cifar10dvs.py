"""CIFAR10-DVS: 10,000 pictures of CIFAR-10, moved before a DVS128.

Li, Liu, Ji, Li and Shi, "CIFAR10-DVS: an event-stream dataset for object classification", Frontiers in
Neuroscience 2017.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from spikformer.data._dataset import Choices
from spikformer.data._recorded import Found, Recorded
from spikformer.data._splits import front, stratified
from spikformer.data.events import Events
from spikformer.data.origin import Archive, Origin
from spikformer.data.recordings import Recording
from spikformer.errors import DataError

FOLDER = "cifar10dvs"
FILES = {
    "airplane": (7_712_788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7_712_791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7_712_794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7_712_812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7_712_815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7_712_818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7_712_842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7_712_851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7_712_836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7_712_839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}
"""Of each class: the number of its archive on figshare, and its MD5."""
CLASSES = tuple(FILES)
PER_CLASS = 1000
SIDE = 128
ORIGIN = Origin(
    home="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
    terms="CC BY 4.0",
    archives=tuple(
        Archive(f"{name}.zip", f"https://ndownloader.figshare.com/files/{number}", md5)
        for name, (number, md5) in FILES.items()
    ),
    folder=FOLDER,
)
TRAINED_ON = 0.9
FRONT, RANDOM = "front90", "random90"
"""The authors' split, the first 900 files of each class by name (`cifar10dvs/train.py`, line 288 of
their repository); and one that is drawn."""


def published(events: Events) -> Events:
    """The orientation and polarity of the authors' data path.

    x' = 127 - y, y' = 127 - x, p' = 1 - p: `CIFAR10DVS.load_origin_data` of SpikingJelly, the same in
    0.0.0.0.12, which the authors name, as in 2.0. `read_events` gives them as they were recorded.
    """
    last = SIDE - 1
    return replace(events, x=last - events.y, y=last - events.x, p=1 - events.p)


def find(root: Path, choices: Choices) -> Found:
    """The official folders, one a class, of `.aedat` files.

    Raises:
        DataError: when one is missing or incomplete.
        ConfigError: for a split that has no name.
    """
    seeded = re.fullmatch(rf"{RANDOM}-seed(\d+)", choices.split or "")
    if seeded is not None:
        choices = replace(choices, split=RANDOM, split_seed=int(seeded[1]))
    split = choices.named(FRONT, RANDOM)
    folder = root / FOLDER
    missing = [name for name in CLASSES if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"there is no {FOLDER}/{missing[0]} in {str(root)!r}: `spikformer data download "
            f"{FOLDER}` fetches all classes, or say where they are"
        )
    paths = [sorted((folder / name).glob("*.aedat")) for name in CLASSES]
    for name, found in zip(CLASSES, paths, strict=True):
        lacking = set(range(PER_CLASS)) - {number_of(path) for path in found}
        if lacking or len(found) > PER_CLASS:
            raise DataError(
                f"{folder / name} has {len(found)} recordings and not those numbered 0 to "
                f"{PER_CLASS - 1}" + (f": {min(lacking)} is missing" if lacking else "")
            )
    labels = np.repeat(np.arange(len(CLASSES)), [len(p) for p in paths])
    recordings = [Recording(path) for each in paths for path in each]
    if split == FRONT:
        train, test = front(labels, TRAINED_ON)
    else:
        test, train = stratified(
            labels, (round(len(labels) * (1 - TRAINED_ON)),), choices.split_seed
        )
        split += f"-seed{choices.split_seed}"
    return Found(recordings, labels, train, test, split)


def number_of(path: Path) -> int:
    """Which of its class a file is: `cifar10_cat_91.aedat` is 91."""
    found = re.search(r"(\d+)$", path.stem)
    if found is None:
        raise DataError(f"{path} has no number")
    return int(found[1])


CIFAR10DVS = Recorded(
    name="cifar10dvs",
    classes=CLASSES,
    size=(SIDE, SIDE),
    frames=16,
    find=find,
    origin=ORIGIN,
    turn=published,
)
