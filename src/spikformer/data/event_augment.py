"""The authors' augmentation of event frames, on batches: one of six operations for each sample.

`SNNAugmentWide` in `cifar10dvs/autoaugment.py` of ZK-Zhou/spikformer, at 6212689. All frames of a
sample are treated alike; pixels come from the nearest place, and from outside comes nothing.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EVENT_NUMBERS = 4
"""Numbers that `event_augment` wants for each sample."""
OPERATIONS = ("identity", "shear_x", "translate_x", "translate_y", "rotate", "cutout")
LEVELS = 31
"""That a magnitude is drawn from, evenly spaced between the largest to either side."""
SHEARS = torch.linspace(-0.3, 0.3, LEVELS)
SHIFTS = torch.linspace(-5.0, 5.0, LEVELS).trunc()
ROTATIONS = torch.linspace(-30.0, 30.0, LEVELS)
"""In radians, pixels and degrees."""
CUT_AREA = (0.001, 0.11)
"""Share of the image in a square that is cut out."""


def event_augment(
    frames: Float[Tensor, "B T C H W"], numbers: Float[Tensor, "B four"]
) -> Float[Tensor, "B T C H W"]:
    """One of `OPERATIONS` for each sample.

    Args:
        frames: Counts of events.
        numbers: In [0, 1): which, how much or which area, top, left.
    """
    which, how_much, top, left = numbers.unbind(1)
    operation = (which * len(OPERATIONS)).long()
    level = (how_much * LEVELS).long()
    cut = operation == OPERATIONS.index("cutout")
    moved = ~cut & (operation != OPERATIONS.index("identity"))
    changed = frames.clone()
    if moved.any():
        changed[moved] = move(frames[moved], maps(operation[moved], level[moved]))
    if cut.any():
        changed[cut] = cutout(frames[cut], how_much[cut], top[cut], left[cut])
    return changed


def maps(operation: Tensor, level: Tensor) -> Float[Tensor, "B 2 3"]:
    """Where each pixel comes from, in pixels from the centre: [x, y, 1] to [x, y].

    Args:
        operation: Index in `OPERATIONS`, of one that moves.
        level: Of the magnitude, 0 to 30.
    """
    shear, shift_x, shift_y, rotate = (operation == OPERATIONS.index(n) for n in OPERATIONS[1:5])
    angle = torch.where(rotate, ROTATIONS[level].deg2rad(), 0.0)
    slope = torch.where(shear, SHEARS[level].tan(), 0.0)
    shift = SHIFTS[level]
    x = torch.stack([angle.cos(), slope - angle.sin(), torch.where(shift_x, -shift, 0.0)], 1)
    y = torch.stack([angle.sin(), angle.cos(), torch.where(shift_y, -shift, 0.0)], 1)
    return torch.stack([x, y], 1)


def move(
    frames: Float[Tensor, "B T C H W"], theta: Float[Tensor, "B 2 3"]
) -> Float[Tensor, "B T C H W"]:
    """Take every pixel from the nearest one at its `theta`, for all frames of a sample."""
    height, width = frames.shape[-2:]
    x = torch.arange(width) - (width - 1) / 2
    y = torch.arange(height) - (height - 1) / 2
    pixels = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1)
    homogeneous = F.pad(pixels, (0, 1), value=1.0).view(1, -1, 3)
    half = torch.tensor([width / 2, height / 2])
    grid = homogeneous @ (theta.transpose(1, 2) / half)
    moved = F.grid_sample(
        frames.flatten(1, 2),
        grid.view(-1, height, width, 2),
        mode="nearest",
        align_corners=False,
    )
    return moved.view_as(frames)


def cutout(
    frames: Float[Tensor, "B T C H W"], area: Tensor, top: Tensor, left: Tensor
) -> Float[Tensor, "B T C H W"]:
    """Set a square to 0 in all frames of a sample.

    Args:
        area: In [0, 1): from the smallest to the largest of `CUT_AREA`.
        top: In [0, 1), and `left`: which of the places where the square fits.
    """
    height, width = frames.shape[-2:]
    share = CUT_AREA[0] + (CUT_AREA[1] - CUT_AREA[0]) * area
    side = (share * height * width).sqrt().round()
    spans = []
    for length, place in ((height, top), (width, left)):
        begin = (place * (length - side + 1)).floor()
        at = torch.arange(length)
        spans.append((at >= begin[:, None]) & (at < (begin + side)[:, None]))
    erased = spans[0][:, :, None] & spans[1][:, None, :]
    return frames.masked_fill(erased[:, None, None], 0.0)
