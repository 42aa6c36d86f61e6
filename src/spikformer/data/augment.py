"""Augmentation on batches of tensors, from numbers that are handed in.

All frames of a sample are treated alike.
"""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

AFFINE_NUMBERS = 4
"""Numbers that `random_affine` wants for each image."""
ERASING_ATTEMPTS = 10
ERASING_NUMBERS = 3 + 2 * ERASING_ATTEMPTS
"""Numbers that `random_erasing` wants for each image."""
ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)


def random_affine(
    images: Float[Tensor, "B *T C H W"],
    numbers: Float[Tensor, "B four"],
    *,
    degrees: float,
    scale: float,
    translate: float,
    padding: Literal["zeros", "border", "reflection"] = "zeros",
) -> Float[Tensor, "B *T C H W"]:
    """Rotate, resize and shift each image by its own amount, bilinearly.

    Args:
        numbers: In [0, 1): rotation, size, shift in x and in y.
        degrees: Largest rotation to either side.
        scale: Largest change in size: 0.1 means 0.9 to 1.1.
        translate: Largest shift to either side, as a share of the side.
        padding: What comes in from outside; zeros are the mean of normalised images.
    """
    rotation, size, shift_x, shift_y = (2 * numbers - 1).to(images).unbind(1)
    angle = rotation * math.radians(degrees)
    zoom = 1 / (1 + size * scale)
    cosine, sine = angle.cos() * zoom, angle.sin() * zoom
    # A sampling grid looks the other way: from where each output pixel comes. One side is 2 wide.
    rows = (
        torch.stack([cosine, -sine, 2 * translate * shift_x], 1),
        torch.stack([sine, cosine, 2 * translate * shift_y], 1),
    )
    layers = images.flatten(1, -3)
    grid = F.affine_grid(torch.stack(rows, 1), list(layers.shape), align_corners=False)
    moved = F.grid_sample(layers, grid, padding_mode=padding, align_corners=False)
    return moved.view_as(images)


def random_erasing(
    images: Float[Tensor, "B *T C H W"], numbers: Float[Tensor, "B many"], probability: float
) -> Float[Tensor, "B *T C H W"]:
    """Set a rectangle of some images to 0: to the mean, when they are normalised.

    Zhong et al., AAAI 2020, in timm's form: 2 to 33 % of the area, sides 0.3 to 3.3 to one; of ten
    drawn rectangles the first that is smaller than the image.

    Args:
        numbers: `ERASING_NUMBERS` in [0, 1): whether, top, left, then areas and aspects.
        probability: Of an image to be touched.
    """
    height, width = images.shape[-2:]
    whether, top, left = numbers[:, :3].unbind(1)
    areas, aspects = numbers[:, 3:].unflatten(1, (2, ERASING_ATTEMPTS)).unbind(1)
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * areas) * height * width
    low, high = map(math.log, ERASED_ASPECT)
    aspect = (low + (high - low) * aspects).exp()
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    tall, wide = tall.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
    touched = (whether < probability) & fits.any(1)
    rows = _between(height, (top * (height - tall + 1)).floor(), tall)
    columns = _between(width, (left * (width - wide + 1)).floor(), wide)
    erased = touched[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return images.flatten(1, -3).masked_fill(erased[:, None], 0.0).view_as(images)


def mixup(
    images: Float[Tensor, "B *T C H W"], targets: Float[Tensor, "B K"], share: float
) -> tuple[Float[Tensor, "B *T C H W"], Float[Tensor, "B K"]]:
    """Each image over that which stands as far from the batch's other end, and so its target.

    Zhang et al., ICLR 2018, with one share for the whole batch, as in timm.

    Args:
        share: Of the image itself.
    """
    return tuple(share * x + (1 - share) * x.flip(0) for x in (images, targets))  # type: ignore[return-value]


def cutmix(
    images: Float[Tensor, "B *T C H W"],
    targets: Float[Tensor, "B K"],
    share: float,
    centre: tuple[float, float],
) -> tuple[Float[Tensor, "B *T C H W"], Float[Tensor, "B K"]]:
    """Like `mixup`, but a box of the other image lies in each (Yun et al., ICCV 2019).

    Args:
        share: Of the image itself; what the box cuts off at the border is given back to it.
        centre: Of the box, y and x as shares of the sides.
    """
    spans = []
    for side, middle in zip(images.shape[-2:], centre, strict=True):
        half = int(side * np.sqrt(1 - share)) // 2
        at = int(side * middle)
        spans.append(slice(max(at - half, 0), min(at + half, side)))
    box = (..., *spans)
    mixed = images.clone()
    mixed[box] = images.flip(0)[box]
    covered = mixed[0, 0][box].numel() / mixed[0, 0].numel()
    return mixed, (1 - covered) * targets + covered * targets.flip(0)


def _between(length: int, start: Tensor, extent: Tensor) -> Tensor:
    """[B, length]: which positions lie in [start, start + extent)."""
    position = torch.arange(length, device=start.device)
    return (position >= start[:, None]) & (position < (start + extent)[:, None])
