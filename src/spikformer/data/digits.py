"""1,797 real handwritten digits, embedded: the data set that needs no download.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998 (CC BY 4.0), the 8 x 8
images of scikit-learn's `load_digits`, enlarged to 16 x 16.
"""

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spikformer.data._dataset import Choices, DataSet, Split
from spikformer.data._splits import fingerprint, stratified
from spikformer.data.origin import Origin
from spikformer.errors import DataError

origin = Origin(
    home="https://archive.ics.uci.edu/dataset/80", terms="CC BY 4.0, embedded in this package"
)
SIDE = 16
TEST, VALIDATION = 540, 180
INK = 16
"""The darkest value in the original."""
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def load(_root: Path, choices: Choices) -> DataSet:
    """The digits, stratified: 540 to test on, some to choose by, the others to train on.

    Args:
        choices: `split_seed` chooses which digits go where, `validation` how many to choose by; by
            default 180.

    Raises:
        DataError: when the package's file is damaged.
        ConfigError: when `validation` is more than there are.
    """
    images, labels = _read()
    enlarged = F.interpolate(
        torch.from_numpy(images)[:, None].float() * (255 / INK), size=(SIDE, SIDE), mode="bilinear"
    )
    pixels = enlarged.round().to(torch.uint8)
    choices.only("digits", "split_seed", "validation", "side")
    size = VALIDATION if choices.validation is None else choices.validation
    test, chosen, train = stratified(labels, (TEST, size), choices.split_seed)
    parts = {"train": train, "validation": chosen, "test": test}
    splits = {
        name: Split(pixels[indices], torch.from_numpy(labels[indices].astype(np.int64)))
        for name, indices in parts.items()
    }
    return DataSet(
        name="digits",
        **splits,
        classes=tuple("0123456789"),
        mean=(0.0,),
        std=(1.0,),
        interpolation="bilinear",
        split_name=f"validation{size}-seed{choices.split_seed}",
        split_hash=fingerprint(parts),
    )


def check(_root: Path | None = None) -> str:
    """One line on what is there.

    Raises:
        DataError: when it is damaged.
    """
    _, labels = _read()
    return f"embedded, {len(labels)} images, checksum good"


def files(_root: Path) -> tuple[Sequence[Path], Callable[[Path], object]]:
    """None: `check` reads them all."""
    return (), Path.read_bytes


def _read() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with resources.files("spikformer.data").joinpath("digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        images, labels = archive["images"], archive["labels"]
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != SHA256:
        raise DataError("the embedded digits are damaged: install the package again")
    return images, labels
