"""ImageNet, or any pictures of all sizes in folders: `train` and `val`, a folder for each class.

Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 2015.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from spikformer.data._dataset import Choices, DataSet, Split
from spikformer.data._splits import Indices, check_disjoint, fingerprint_of_files, stratified
from spikformer.data.origin import Origin
from spikformer.errors import DataError

FOLDER = "imagenet"
SIDE = 224
ASPECTS = 3 / 4, 4 / 3
"""Of width to height: what is squashed as a whole in training."""
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
origin = Origin(
    home="https://image-net.org/download.php", terms="research and education, after registration"
)


@dataclass(frozen=True)
class Pictures:
    """Pictures [n, 3, side, side], decoded when they are asked for.

    Grey, palette and CMYK pictures become RGB. An orientation in the EXIF data is not looked at: the
    data path of the authors, and everybody's for ImageNet, does not either.

    Args:
        paths: The files.
        side: Of the square they are brought to, bicubically.
        squash: Change the aspect: training's way, see `squashed`. Otherwise `centred`.
    """

    paths: Sequence[Path]
    side: int
    squash: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.paths), 3, self.side, self.side

    def part(self, indices: Indices) -> "Pictures":
        """Some of the pictures."""
        return type(self)([self.paths[i] for i in indices], self.side, self.squash)

    def __getitem__(self, chosen: Tensor) -> UInt8[Tensor, "*B 3 side side"]:
        look = to_train_on if self.squash else to_evaluate
        pictures = [look(self.paths[i], self.side) for i in chosen.reshape(-1).tolist()]
        stacked = torch.stack(pictures) if pictures else torch.empty(0)
        return stacked.reshape(*chosen.shape, 3, self.side, self.side)


def to_train_on(path: Path, side: int) -> UInt8[Tensor, "3 side side"]:
    """A file as training sees it, see `squashed`."""
    return F.pil_to_tensor(squashed(read(path), side))


def to_evaluate(path: Path, side: int) -> UInt8[Tensor, "3 side side"]:
    """A file as evaluation sees it, see `centred`."""
    return F.pil_to_tensor(centred(read(path), side))


def read(path: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: when it is missing, or cannot be decoded.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {str(path)!r}") from error
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{path} cannot be decoded: {error}") from error


def squashed(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture as a square; of one longer than 4:3 its middle.

    What remains of timm's random crop where, as in the authors' `imagenet.yml`, its area must be all.
    """
    width, height = picture.size
    low, high = ASPECTS
    wide, tall = width, height
    if width < low * height:
        tall = round(width / low)
    elif width > high * height:
        wide = round(height * high)
    left, top = (width - wide) // 2, (height - tall) // 2
    cut = picture.crop((left, top, left + wide, top + tall))
    return cut.resize((side, side), Image.Resampling.BICUBIC)


def centred(picture: Image.Image, side: int) -> Image.Image:
    """The square in the middle, after the shorter side was brought to `side`."""
    width, height = picture.size
    wide, tall = (max(side, int(side * length / min(width, height))) for length in (width, height))
    picture = picture.resize((wide, tall), Image.Resampling.BICUBIC)
    left, top = round((wide - side) / 2), round((tall - side) / 2)
    return picture.crop((left, top, left + side, top + side))


def load(root: Path, choices: Choices) -> DataSet:
    """The official training pictures, and the official validation pictures to test on.

    Args:
        root: Folder that holds `imagenet/train` and `imagenet/val`, or these two themselves.
        choices: `side`, by default 224; `validation`, by default 0, pictures are cut from the training
            data by `split_seed`.

    Raises:
        DataError: when files are missing.
        ConfigError: when `validation` is more than there are.
    """
    choices.only(FOLDER, "split_seed", "validation", "side")
    train_paths, labels, classes = _found(_folder(root) / "train")
    test_paths, test_labels, test_classes = _found(_folder(root) / "val")
    if classes != test_classes:
        raise DataError(
            f"{_folder(root)} has {len(classes)} classes to train on, {len(test_classes)} to test on, "
            f"and not the same ones"
        )
    side, size = choices.side or SIDE, choices.validation or 0
    chosen, rest = stratified(labels, (size,), choices.split_seed)
    files = {
        "train": [train_paths[i] for i in rest],
        "validation": [train_paths[i] for i in chosen],
        "test": test_paths,
    }
    check_disjoint({part: [str(path) for path in paths] for part, paths in files.items()})
    named = {part: [f"{p.parent.name}/{p.name}" for p in paths] for part, paths in files.items()}
    whole = torch.from_numpy(labels)
    return DataSet(
        name=FOLDER,
        train=Split(Pictures(train_paths, side, squash=True).part(rest), whole[rest]),
        validation=Split(Pictures(train_paths, side, squash=False).part(chosen), whole[chosen]),
        test=Split(Pictures(test_paths, side, squash=False), torch.from_numpy(test_labels)),
        classes=classes,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bicubic",
        split_name=f"validation{size}-seed{choices.split_seed}" if size else "official",
        split_hash=fingerprint_of_files(named),
    )


def check(root: Path) -> str:
    """One line on what is there.

    Raises:
        DataError: when files are missing.
    """
    counts = [_found(_folder(root) / part) for part in ("train", "val")]
    (train, _, classes), (test, *_) = counts
    return f"{_folder(root)}, {len(train)} + {len(test)} pictures of {len(classes)} classes"


def files(root: Path) -> tuple[Sequence[Path], Callable[[Path], object]]:
    """All pictures, and what decodes one."""
    parts = [_found(_folder(root) / part)[0] for part in ("train", "val")]
    return [path for paths in parts for path in paths], read


def _folder(root: Path) -> Path:
    for folder in (root / FOLDER, root):
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return folder
    raise DataError(
        f"there is no {FOLDER}/train and {FOLDER}/val in {str(root)!r}: the pictures come from {origin.home}, "
        "one folder a class; or say where they are"
    )


def _found(folder: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """Files in the order of their names, their labels, and the classes."""
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    each = [
        sorted(p for p in (folder / name).resolve().rglob("*") if p.suffix.lower() in SUFFIXES)
        for name in classes
    ]
    empty = [name for name, paths in zip(classes, each, strict=True) if not paths]
    if not classes or empty:
        raise DataError(f"{folder} has no pictures{f' of {empty[0]}' if empty else ''}")
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in each])
    return [path for paths in each for path in paths], labels, classes
