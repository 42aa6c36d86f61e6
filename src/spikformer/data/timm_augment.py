"""timm's RandAugment of all fifteen operations, drawn from numbers that are handed in."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from timm.data.auto_augment import _RAND_INCREASING_TRANSFORMS as INCREASING
from timm.data.auto_augment import RandAugment, rand_augment_ops
from torch import Tensor
from torchvision.transforms.v2 import functional as F


def timm_rand_augment(
    images: UInt8[Tensor, "B 3 H W"],
    numbers: Float[Tensor, " B"],
    *,
    magnitude: float,
    deviation: float,
    fill: tuple[int, ...],
) -> UInt8[Tensor, "B 3 H W"]:
    """Two of timm's operations on each image, each with probability one half (`rand-...-inc1`).

    Bicubic, as `imagenet.yml` of the authors asks for.

    Args:
        numbers: In [0, 1): one seeds all that is drawn for an image.
        magnitude: Mean of the magnitude, which is normal and cut to 0 to 10.
        deviation: Its standard deviation.
        fill: What comes in from outside, for each channel.
    """
    hints = {
        "img_mean": fill,
        "magnitude_std": deviation,
        "interpolation": Image.Resampling.BICUBIC,
    }
    operations = rand_augment_ops(magnitude, hparams=hints, transforms=INCREASING)
    for operation in operations:
        if operation.name == "PosterizeIncreasing":
            operation.aug_fn = _posterize
    augment = RandAugment(operations, num_layers=2)
    changed = []
    for image, number in zip(images, numbers.tolist(), strict=True):
        with _seeded(int(number * 2**32)):
            changed.append(F.pil_to_tensor(augment(F.to_pil_image(image))))
    return torch.stack(changed)


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep some bits of each value. Of none remains black: Pillow refuses that today, and did not
    when the recipes were written.
    """
    return ImageOps.posterize(image, bits) if bits else image.point(lambda _: 0)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators that timm draws from, set for a while and then put back."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
