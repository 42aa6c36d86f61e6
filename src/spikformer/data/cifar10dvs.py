"""CIFAR10-DVS: 10,000 pictures of CIFAR-10, moved before a DVS128.

Li, Liu, Ji, Li and Shi, "CIFAR10-DVS: an event-stream dataset for object classification", Frontiers in
Neuroscience 2017.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np

from spikformer.data._dataset import Choices
from spikformer.data._recorded import Found, Recorded
from spikformer.data._splits import front, stratified
from spikformer.data.events import Events
from spikformer.data.recordings import Recording
from spikformer.errors import DataError

FOLDER = "cifar10dvs"
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SIDE = 128
TRAINED_ON = 0.9
FRONT, RANDOM = "front90", "random90"
"""The authors' split, the first 900 files of each class by name (`cifar10dvs/train.py`, line 288 of
their repository); and one that is drawn."""


def published(events: Events) -> Events:
    """The orientation and polarity of the authors' data path.

    x' = 127 - y, y' = 127 - x, p' = 1 - p: `CIFAR10DVS.load_origin_data` of SpikingJelly, the same in
    the releases of 2022 that the authors name as in 2.0.
    """
    last = SIDE - 1
    return dataclasses.replace(events, x=last - events.y, y=last - events.x, p=1 - events.p)


def find(root: Path, choices: Choices) -> Found:
    """The official folders, one a class, of `.aedat` files.

    Raises:
        DataError: when one is missing or incomplete.
        ConfigError: for a split that has no name.
    """
    split = choices.named(FRONT, RANDOM)
    folder = root / FOLDER
    missing = [name for name in CLASSES if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"there is no {FOLDER}/{missing[0]} in {str(root)!r}: `spikformer data download "
            f"{FOLDER}` fetches all classes, or say where they are"
        )
    paths = [sorted((folder / name).glob("*.aedat")) for name in CLASSES]
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
    turn=published,
)
