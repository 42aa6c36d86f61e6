r"""The authors' RandAugment on batches: five operations, exact to Pillow's last bit.

`rand-m9-n1-mstd0.4-inc1` with ten of timm's fifteen operations commented out (`aa_snn.py` of
ZK-Zhou/spikformer, cifar10): on half of the images one of equalize, rotate, shear in x, translate in
x, translate in y. Stock timm with the same string is another recipe.
"""

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

RAND_NUMBERS = 4
"""Numbers that `rand_augment` wants for each image."""
OPERATIONS = ("equalize", "rotate", "shear_x", "translate_x", "translate_y")
ROTATION, SHEAR, TRANSLATION = math.radians(30), 0.3, 0.45
"""What a magnitude of 10 does: radians, slope, share of the side."""
LARGEST = 10.0


def rand_augment(
    images: UInt8[Tensor, "B C H W"],
    numbers: Float[Tensor, "B four"],
    *,
    magnitude: float,
    deviation: float,
    fill: tuple[int, ...],
) -> UInt8[Tensor, "B C H W"]:
    """One of `OPERATIONS` on about half of the images.

    Args:
        numbers: In [0, 1): whether, which, how much, which way.
        magnitude: Mean of the magnitude, which is normal and cut to 0 to 10.
        deviation: Its standard deviation.
        fill: What comes in from outside, for each channel.
    """
    whether, which, how_much, way = numbers.double().unbind(1)
    touched = whether >= 0.5
    operation = (which * len(OPERATIONS)).long()
    normal = torch.special.ndtri(how_much.clamp(1e-12))
    level = (magnitude + deviation * normal).clamp(0, LARGEST) / LARGEST
    level = torch.where(way < 0.5, level, -level)

    changed = images.clone()
    equalized = touched & (operation == OPERATIONS.index("equalize"))
    moved = touched & ~equalized
    if equalized.any():
        changed[equalized] = equalize(images[equalized])
    if moved.any():
        maps = _maps(operation[moved], level[moved], images.shape[-2], images.shape[-1])
        changed[moved] = move(images[moved], maps, fill)
    return changed


def equalize(images: UInt8[Tensor, "B C H W"]) -> UInt8[Tensor, "B C H W"]:
    """Spread each channel's values so that all are about equally frequent (`ImageOps.equalize`)."""
    flat = images.flatten(2).long()
    counts = flat.new_zeros(*flat.shape[:2], 256).scatter_add_(2, flat, torch.ones_like(flat))
    highest = flat.amax(2, keepdim=True)
    below = flat.shape[2] - counts.gather(2, highest)  # pixels that are not of the highest value
    step = below // 255
    table = (step // 2 + counts.cumsum(2) - counts) // step.clamp(min=1)
    spread = table.clamp(max=255).gather(2, flat)
    return torch.where(step > 0, spread, flat).to(torch.uint8).view_as(images)


def move(
    images: UInt8[Tensor, "B C H W"], maps: Float[Tensor, "B six"], fill: tuple[int, ...]
) -> UInt8[Tensor, "B C H W"]:
    """Affine transforms with bicubic interpolation (`Image.transform`: the cubic with a = -1).

    Args:
        maps: From each output pixel to where it comes from: x' = a x + b y + c, y' = d x + e y + f,
            with pixel centres at halves.
        fill: What comes in from outside, for each channel.
    """
    height, width = images.shape[-2:]
    x, y = torch.meshgrid(
        torch.arange(width, dtype=torch.float64) + 0.5,
        torch.arange(height, dtype=torch.float64) + 0.5,
        indexing="xy",
    )
    a, b, c, d, e, f = maps[:, :, None, None].unbind(1)
    from_x, from_y = a * x + b * y + c, d * x + e * y + f
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    columns, part_x = _neighbours(from_x, width)
    rows, part_y = _neighbours(from_y, height)

    samples = images.movedim(1, -1)  # channels last: they share every weight
    batch = torch.arange(len(images))[:, None, None]
    lines = [_cubic([samples[batch, r, c].double() for c in columns], part_x) for r in rows]
    values = _cubic(lines, part_y).clamp(0, 255).to(torch.uint8)  # rounds down, as Pillow does
    values[outside] = torch.tensor(fill, dtype=torch.uint8)
    return values.movedim(-1, 1)


def _maps(operation: Int[Tensor, " B"], level: Tensor, height: int, width: int) -> Tensor:
    """Each image's map; `level` is in -1 to 1."""

    def chosen(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), level, 0)

    # Pillow turns against the clock, seen with y downwards, about the middle; it rounds like this.
    angle = -ROTATION * chosen("rotate")
    cosine, sine = (part.round(decimals=15) for part in (angle.cos(), angle.sin()))
    middle_x, middle_y = width / 2, height / 2
    turned_x = cosine * -middle_x + sine * -middle_y + middle_x
    turned_y = -sine * -middle_x + cosine * -middle_y + middle_y
    right = turned_x + TRANSLATION * chosen("translate_x") * width
    down = turned_y + TRANSLATION * chosen("translate_y") * height
    across = sine + SHEAR * chosen("shear_x")
    return torch.stack([cosine, across, right, -sine, cosine, down], 1)


def _neighbours(position: Tensor, length: int) -> tuple[list[Tensor], Tensor]:
    """The four pixels around each position, and where between the middle two it lies."""
    left = (position - 0.5).floor()
    indices = [(left.long() + i).clamp(0, length - 1) for i in (-1, 0, 1, 2)]
    return indices, (position - 0.5 - left)[..., None]


def _cubic(points: list[Tensor], part: Tensor) -> Tensor:
    one, two, three, four = points
    slope, bend = three - one, 2 * (one - two) + three - four
    return two + part * (slope + part * (bend + part * (two - one + four - three)))
