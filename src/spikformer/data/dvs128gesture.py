"""DVS128 Gesture: eleven gestures of 29 people under three lights, before a DVS128.

Amir et al., "A low power, fully event-based gesture recognition system", CVPR 2017. The clips are
those of the label files, `startTime_usec <= t < endTime_usec`: 1,176 to train on and 288 to test on.
"""

import csv
from pathlib import Path

import numpy as np

from spikformer.data._dataset import Choices
from spikformer.data._recorded import Found, Recorded
from spikformer.data.origin import Archive, Origin
from spikformer.data.recordings import Recording
from spikformer.errors import DataError

FOLDERS = ("DvsGesture", "dvs128gesture")
LISTS = ("trials_to_train.txt", "trials_to_test.txt")
CLASSES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
SIDE = 128
ORIGIN = Origin(
    home="https://research.ibm.com/interactive/dvsgesture/",
    terms="CC BY 4.0",
    archives=(Archive("DvsGesture.tar.gz", None, "8a5c71fb11e24e5ca5b11866ca6c00a1"),),
)
"""The MD5 is that of SpikingJelly and Tonic."""


def find(root: Path, choices: Choices) -> Found:
    """The official folder `DvsGesture`, split as its two lists of trials say.

    Raises:
        DataError: when it is missing or incomplete, or a label file makes no sense.
    """
    choices.named("official")
    folder = next((root / f for f in FOLDERS if (root / f / LISTS[0]).is_file()), None)
    if folder is None:
        raise DataError(
            f"there is no {FOLDERS[0]}/{LISTS[0]} in {str(root)!r}: put DvsGesture.tar.gz of {ORIGIN.home} "
            f"there for `spikformer data download dvs128gesture` to unpack, or say where it is"
        )
    recordings, labels, counts = [], [], []
    for name in LISTS:
        before = len(labels)
        for trial in (folder / name).read_text().split():
            clips, classes = _labels(folder / trial.replace(".aedat", "_labels.csv"))
            recordings.append(Recording(folder / trial, clips))
            labels += classes
        counts.append(len(labels) - before)
    missing = [r.path.name for r in recordings if not r.path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} recordings are missing in {folder}: {missing[0]}")
    train, test = np.split(np.arange(len(labels)), [counts[0]])
    people = [r.path.name.split("_")[0] for r in recordings]
    return Found(recordings, np.array(labels, np.int64), train, test, "official", people)


def _labels(path: Path) -> tuple[tuple[tuple[int, int], ...], list[int]]:
    """Start and end of every clip of a recording, and its class from 0."""
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    try:
        heading, *rows = csv.reader(path.read_text().splitlines())
        numbers = [[int(cell) for cell in row] for row in rows if row]
        clips = tuple((start, end) for _, start, end in numbers)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if heading[:1] != ["class"] or not all(start < end for start, end in clips):
        raise DataError(
            f"{path} is damaged: it has no heading, or a clip that ends before it begins"
        )
    classes = [label - 1 for label, _, _ in numbers]
    if not all(0 <= label < len(CLASSES) for label in classes):
        raise DataError(f"{path} names a class that is none of 1 to {len(CLASSES)}")
    return clips, classes


DVS128GESTURE = Recorded(
    name="dvs128gesture", classes=CLASSES, size=(SIDE, SIDE), frames=16, find=find, origin=ORIGIN
)
