import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from spikformer.data.event_augment import (
    CUT_AREA,
    EVENT_NUMBERS,
    LEVELS,
    OPERATIONS,
    event_augment,
    maps,
    move,
)

FRAMES = torch.randint(0, 5, (4, 2, 48, 40), generator=torch.Generator().manual_seed(0)).float()


def numbers(operation, *others):
    which = (OPERATIONS.index(operation) + 0.5) / len(OPERATIONS)
    return torch.tensor([[which, *others, *[0.5] * (EVENT_NUMBERS - 1 - len(others))]])


def by_torchvision(operation, level):
    largest = {"rotate": 30.0, "shear_x": 0.3}.get(operation, 5.0)
    magnitude = torch.linspace(-largest, largest, LEVELS)[level].item()
    nearest = {"interpolation": InterpolationMode.NEAREST}
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    if operation == "rotate":
        return F.rotate(FRAMES, magnitude, **nearest)
    if operation == "shear_x":
        still["shear"] = [math.degrees(magnitude), 0.0]
    else:
        place = ("translate_x", "translate_y").index(operation)
        still["translate"][place] = int(magnitude)
    return F.affine(FRAMES, **still, **nearest)


@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize("operation", OPERATIONS[1:5])
def test_moves_are_those_of_torchvision(operation, level):
    moved = event_augment(FRAMES[None], numbers(operation, (level + 0.5) / LEVELS))[0]
    different = (moved != by_torchvision(operation, level)).float().mean()
    assert different < 2e-3  # a pixel that lies between two may go to either


def test_no_move_is_none():
    still = maps(torch.tensor([OPERATIONS.index("rotate")]), torch.tensor([LEVELS // 2]))
    assert torch.equal(move(FRAMES[None], still)[0], FRAMES)
    assert torch.equal(event_augment(FRAMES[None], numbers("identity"))[0], FRAMES)


def test_all_frames_of_a_sample_move_alike_and_samples_do_not():
    same = FRAMES[:1, :1].expand(3, 4, 2, 48, 40)
    drawn = torch.cat([numbers("rotate", 0.9), numbers("shear_x", 0.1), numbers("cutout", 0.9)])
    changed = event_augment(same, drawn)
    for sample in changed:
        assert torch.equal(sample, sample[:1, :1].expand_as(sample))
    assert not torch.equal(changed[0], changed[1])


@pytest.mark.parametrize("area", [0.0, 0.3, 0.999])
def test_a_square_is_cut_out(area):
    ones = torch.ones(1, 2, 2, 48, 40)
    share = CUT_AREA[0] + (CUT_AREA[1] - CUT_AREA[0]) * area
    side = round(math.sqrt(share * 48 * 40))
    for top, left in ((0.0, 0.0), (0.999, 0.999), (0.2, 0.7)):
        cut = event_augment(ones, numbers("cutout", area, top, left))[0] == 0
        rows, columns = cut[0, 0].any(1).nonzero(), cut[0, 0].any(0).nonzero()
        assert cut[0, 0].sum() == side**2 == len(rows) * len(columns)
        assert torch.equal(cut, cut[:1, :1].expand_as(cut))
        assert rows[0] == int(top * (48 - side + 1))
        assert columns[0] == int(left * (40 - side + 1))


def test_each_operation_has_its_share():
    drawn = torch.rand(1500, EVENT_NUMBERS, generator=torch.Generator().manual_seed(0))
    frames = torch.rand(1, 1, 1, 128, 128).expand(1500, 1, 1, 128, 128)
    untouched = (event_augment(frames, drawn) == frames).flatten(1).all(1).float().mean()
    # Identity, and the middle of the 31 levels; shifts of less than a pixel, which 7 of 31 are: one
    # whole pixel to either side is 0.99999994 in `torch.linspace`, there and here.
    assert untouched == pytest.approx((1 + 2 / 31 + 2 * 7 / 31) / 6, abs=0.02)
