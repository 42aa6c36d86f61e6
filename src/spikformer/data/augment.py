"""Augmentation on batches of tensors, from numbers that are handed in."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

AFFINE_NUMBERS = 4
"""Numbers that `random_affine` wants for each image."""


def random_affine(
    images: Float[Tensor, "B C H W"],
    numbers: Float[Tensor, "B four"],
    *,
    degrees: float,
    scale: float,
    translate: float,
    padding: Literal["zeros", "border", "reflection"] = "zeros",
) -> Float[Tensor, "B C H W"]:
    """Rotate, resize and shift each image by its own amount, bilinearly.

    Args:
        numbers: In [0, 1): rotation, size, shift in x and in y.
        degrees: Largest rotation to either side.
        scale: Largest change in size: 0.1 means 0.9 to 1.1.
        translate: Largest shift to either side, as a share of the side.
        padding: What comes in from outside.
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
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
