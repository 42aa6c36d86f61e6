"""CIFAR-10 and CIFAR-100 from their official files.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikformer.data._dataset import Choices, DataSet, Split
from spikformer.data._splits import fingerprint, stratified
from spikformer.data.origin import Archive, Origin
from spikformer.errors import DataError

HOME = "https://www.cs.toronto.edu/~kriz/"
VALIDATION = 5000
"""Training images that are kept for choosing, unless told otherwise."""


@dataclass(frozen=True)
class Cifar:
    """One of the two.

    Args:
        name: As in `DATASETS`.
        official: The class of torchvision that reads its files.
        folder: Where they lie under the root.
        origin: Where they come from.
    """

    name: str
    official: str
    folder: str
    origin: Origin

    def load(self, root: Path, choices: Choices) -> DataSet:
        """All 60,000 images: 10,000 to test on, the others divided by class.

        Mean and deviation are those of the authors' `cifar10.yml`, for both: they published no
        file for CIFAR-100, and say to change the data set's name.

        Args:
            root: Folder that holds the official one.
            choices: `split_seed` chooses which images validate, `validation` how many; by
                default 5,000. The rest trains.

        Raises:
            DataError: when files are missing or damaged.
            ConfigError: when `validation` is more than there are.
        """
        images, labels, classes = self._read(root, train=True)
        choices.only(self.name, "split_seed", "validation", "side")
        size = VALIDATION if choices.validation is None else choices.validation
        seed = choices.split_seed
        chosen, rest = stratified(labels, (size,), seed)
        test_images, test_labels, _ = self._read(root, train=False)
        parts = {"train": rest, "validation": chosen, "test": np.arange(len(test_labels))}
        whole = torch.from_numpy(labels)
        return DataSet(
            name=self.name,
            train=Split(images[rest], whole[rest]),
            validation=Split(images[chosen], whole[chosen]),
            test=Split(test_images, torch.from_numpy(test_labels)),
            classes=classes,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            interpolation="bicubic",
            split_name=f"validation{size}-seed{seed}" if size else "official",
            split_hash=fingerprint(parts),
        )

    def check(self, root: Path) -> str:
        """One line on what is there.

        Raises:
            DataError: when files are missing or damaged.
        """
        sizes = [len(self._open(root, train).targets) for train in (True, False)]
        return f"{root / self.folder}, {sum(sizes)} images, checksums good"

    def files(self, _root: Path) -> tuple[Sequence[Path], Callable[[Path], object]]:
        """None: `check` reads them all."""
        return (), Path.read_bytes

    def _read(self, root: Path, train: bool) -> tuple[Tensor, NDArray[np.int64], tuple[str, ...]]:
        found = self._open(root, train)
        images = torch.from_numpy(found.data).movedim(-1, 1).contiguous()
        return images, np.array(found.targets), tuple(found.classes)

    def _open(self, root: Path, train: bool) -> Any:
        from torchvision import datasets

        if not (root / self.folder).is_dir():
            raise DataError(
                f"there is no {self.folder} in {str(root)!r}: unpack {self.origin.archives[0].url} there, "
                "or say where it is"
            )
        try:
            return getattr(datasets, self.official)(root, train=train)
        except Exception as error:  # a damaged pickle may raise anything
            raise DataError(f"{root / self.folder} is incomplete or damaged") from error


def _origin(archive: str, md5: str) -> Origin:
    return Origin(
        home=f"{HOME}cifar.html",
        terms="none stated; cite Krizhevsky 2009",
        archives=(Archive(archive, HOME + archive, md5),),
    )


CIFAR10 = Cifar(
    name="cifar10",
    official="CIFAR10",
    folder="cifar-10-batches-py",
    origin=_origin("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
)
CIFAR100 = Cifar(
    name="cifar100",
    official="CIFAR100",
    folder="cifar-100-python",
    origin=_origin("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
)
