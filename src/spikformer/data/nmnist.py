"""N-MNIST: handwritten digits seen by an ATIS camera in three saccades, 34 x 34 pixels.

Orchard, Jayawant, Cohen and Thakor, "Converting static image datasets to spiking neuromorphic
datasets using saccades", Frontiers in Neuroscience 2015.
"""

from pathlib import Path

import numpy as np

from spikformer.data._dataset import Choices
from spikformer.data._recorded import Found, Recorded
from spikformer.data.origin import Archive, Origin
from spikformer.data.recordings import Recording
from spikformer.errors import DataError

FOLDER, SMALL = "nmnist", "nmnist_small"
LISTS = ("train1K.txt", "test100.txt")
"""Of the excerpt that SLAYER's authors published: number and class of each recording."""
FILES = {
    "Train.zip": ("39c25547-014b-4137-a934-9d29fa53c7a0", "20959b8e626244a1b502305a9e6e2031"),
    "Test.zip": ("05a4d654-7e03-4c15-bdfa-9bb2bcbea494", "69ca8762b2fe404d9b9bad1103e97832"),
}
"""Of each archive: its number on Mendeley Data, and its MD5 (as SpikingJelly and Tonic have them)."""
MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"
ORIGIN = Origin(
    home="https://www.garrickorchard.com/datasets/n-mnist",
    terms="CC BY-SA 4.0",
    archives=tuple(
        Archive(name, f"{MENDELEY}/{number}/file_downloaded", md5)
        for name, (number, md5) in FILES.items()
    ),
    folder=FOLDER,
)


def find(root: Path, choices: Choices) -> Found:
    """The official folders `Train` and `Test` in `nmnist`, else SLAYER's excerpt in `nmnist_small`.

    Raises:
        DataError: when there is neither, or files of the excerpt are missing.
    """
    if (root / FOLDER / "Train").is_dir() and (root / FOLDER / "Test").is_dir():
        parts = [_official(root / FOLDER / part) for part in ("Train", "Test")]
        split = "official"
    elif (root / SMALL).is_dir():
        parts = [_listed(root / SMALL, name) for name in LISTS]
        split = "small"
    else:
        raise DataError(
            f"there is no {FOLDER}/Train and {FOLDER}/Test in {str(root)!r}: `spikformer data "
            f"download {FOLDER}` fetches them, or say where they are"
        )
    choices.named(split)
    train, test = parts
    return Found(
        recordings=[Recording(path) for path, _ in train + test],
        labels=np.array([label for _, label in train + test], np.int64),
        train=np.arange(len(train)),
        test=np.arange(len(train), len(train) + len(test)),
        split=split,
    )


def _official(folder: Path) -> list[tuple[Path, int]]:
    found = [(p, k) for k in range(10) for p in sorted((folder / str(k)).glob("*.bin"))]
    if len({label for _, label in found}) < 10:
        raise DataError(f"{folder} does not hold recordings of all ten digits")
    return found


def _listed(folder: Path, name: str) -> list[tuple[Path, int]]:
    if not (folder / name).is_file():
        raise DataError(f"there is no {name} in {str(folder)!r}")
    try:
        lines = (folder / name).read_text().splitlines()
        rows = [[int(word) for word in r.split()] for r in lines if r and not r.startswith("#")]
        found = [(folder / f"{number}.bs2", label) for number, label in rows]
    except ValueError as error:
        raise DataError(f"{folder / name} is damaged: {error}") from error
    if not all(0 <= label < 10 for _, label in found):
        raise DataError(f"{folder / name} is damaged: a label is none of 0 to 9")
    missing = [path.name for path, _ in found if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} files of {name} are missing, the first is {missing[0]}")
    return found


NMNIST = Recorded(
    name="nmnist", classes=tuple("0123456789"), size=(34, 34), frames=10, find=find, origin=ORIGIN
)
