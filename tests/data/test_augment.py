import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from timm.data import mixup as timms_mixup
from timm.data import random_erasing as timms_erasing
from timm.loss import SoftTargetCrossEntropy

from spikformer.data.augment import (
    ERASING_ATTEMPTS,
    ERASING_NUMBERS,
    cutmix,
    mixup,
    random_affine,
    random_erasing,
)
from spikformer.data.randomness import uniforms

SIDE = 32
SHARES = st.floats(0, 1)


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_no_augmentation_leaves_images():
    images = torch.rand(3, 1, 8, 8)
    middle = torch.full((3, 4), 0.5)
    kept = random_affine(images, middle, degrees=90, scale=0.5, translate=0.5)
    assert torch.allclose(kept, images, atol=1e-6)  # the grid's own rounding


def test_a_quarter_turn_and_a_shift_move_pixels_where_they_should():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 1] = 1
    turned = random_affine(
        image, torch.tensor([[1.0, 0.5, 0.5, 0.5]]), degrees=90, scale=0, translate=0
    )
    assert torch.allclose(turned, image.rot90(1, (2, 3)), atol=1e-5)  # the grid's own rounding
    shifted = random_affine(
        image, torch.tensor([[0.5, 0.5, 0.0, 0.5]]), degrees=0, scale=0, translate=0.25
    )
    assert shifted[0, 0, 0].tolist() == pytest.approx([0, 0, 1, 0], abs=1e-5)


def test_doubling_the_size_shows_the_middle_half():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    numbers = torch.tensor([[0.5, 1.0, 0.5, 0.5]])
    enlarged = random_affine(ramp, numbers, degrees=0, scale=1, translate=0)
    # output pixel i shows the place 3.5 + (i - 3.5) / 2 of the ramp
    expected = [1.75 + i / 2 for i in range(8)]
    assert enlarged[0, 0, 3].tolist() == pytest.approx(expected, abs=1e-5)


def erased(count, probability=1.0, seed=0):
    """Which pixels [n, H, W] are erased, by drawn numbers."""
    numbers = torch.from_numpy(uniforms(seed, 0, np.arange(count), ERASING_NUMBERS)).float()
    return random_erasing(torch.ones(count, 1, SIDE, SIDE), numbers, probability)[:, 0] == 0


def rectangles(masks):
    """[n, 4]: top, left, height, width; fails where what is erased is no rectangle."""
    rows, columns = masks.any(2).int(), masks.any(1).int()
    heights, widths = rows.sum(1), columns.sum(1)
    tops, lefts = rows.argmax(1), columns.argmax(1)
    assert torch.equal(masks.flatten(1).sum(1), heights * widths)
    positions = torch.arange(SIDE)
    assert torch.equal(rows.mul(positions).sum(1), heights * (2 * tops + heights - 1) // 2)
    assert torch.equal(columns.mul(positions).sum(1), widths * (2 * lefts + widths - 1) // 2)
    return torch.stack([tops, lefts, heights, widths], 1)


def one_square(first=(0.0, 0.5), whether=0.0):
    """Numbers of an 8 x 8 square, at half of the free height and at the left, in all attempts but
    the first."""
    area = (1 / 16 - 0.02) / (1 / 3 - 0.02)
    areas, aspects = [area] * ERASING_ATTEMPTS, [0.5] * ERASING_ATTEMPTS
    areas[0], aspects[0] = first
    return torch.tensor([[whether, 0.5, 0.0, *areas, *aspects]])


def test_an_eighth_of_the_side_squared_is_erased_where_it_was_told():
    area = (1 / 16 - 0.02) / (1 / 3 - 0.02)
    mask = random_erasing(torch.ones(1, 3, SIDE, SIDE), one_square((area, 0.5)), 0.25) == 0
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[12:20, :8] = True  # of 25 places the 13th
    assert torch.equal(mask, expected.expand(1, 3, -1, -1))


@pytest.mark.parametrize(
    ("area", "aspect", "height", "width"),
    [
        # of 320 x 320 the roots of 2 % and of a third; of 17.7 %, times 0.3 and divided by it
        (0.0, 0.5, 45, 45),
        (0.99999, 0.5, 185, 185),
        (0.5, 0.0, 74, 246),
        (0.5, 0.99999, 246, 74),
    ],
)
def test_the_ends_of_the_ranges_are_the_papers(area, aspect, height, width):
    images = torch.ones(1, 1, 320, 320)
    numbers = torch.tensor(
        [[0.0, 0.0, 0.0, *[area] * ERASING_ATTEMPTS, *[aspect] * ERASING_ATTEMPTS]]
    )
    mask = random_erasing(images, numbers, 1.0)[0, 0] == 0
    assert (mask.any(1).sum().item(), mask.any(0).sum().item()) == (height, width)


def test_a_rectangle_that_does_not_fit_gives_way_to_the_next():
    # a third of the area at 3.3 to one would be 34 high
    mask = random_erasing(torch.ones(1, 1, SIDE, SIDE), one_square((0.999, 0.999)), 0.25) == 0
    assert rectangles(mask[:, 0]).tolist() == [[12, 0, 8, 8]]


def test_an_image_whose_rectangles_never_fit_is_left():
    numbers = one_square((0.999, 0.999))
    numbers[:, 3:] = 0.999
    images = torch.ones(1, 1, SIDE, SIDE)
    assert torch.equal(random_erasing(images, numbers, 1.0), images)


def test_the_share_that_is_touched_is_the_probability():
    touched = erased(8000, probability=0.25).flatten(1).any(1)
    # five standard deviations of 8,000 throws
    assert touched.double().mean().item() == pytest.approx(0.25, abs=5 * math.sqrt(0.1875 / 8000))
    assert not erased(100, probability=0.0).any()


def test_areas_and_aspects_lie_in_their_ranges_and_fill_them():
    _, _, height, width = rectangles(erased(4000)).double().unbind(1)
    # sides were rounded: what was drawn lies within half a pixel
    assert ((height + 0.5) * (width + 0.5) >= 0.02 * SIDE**2).all()
    assert ((height - 0.5) * (width - 0.5) <= SIDE**2 / 3).all()
    assert ((height - 0.5) / (width + 0.5) <= 1 / 0.3).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all()
    assert height.max() < SIDE
    assert width.max() < SIDE
    area, aspect = height * width / SIDE**2, height / width
    assert area.min() < 0.025
    assert area.max() > 0.32
    assert aspect.min() < 0.32
    assert aspect.max() > 1 / 0.32


@pytest.mark.parametrize("which", range(6))
def test_rectangles_are_distributed_as_timms(which, monkeypatch):
    count = 4000
    monkeypatch.setattr(timms_erasing, "random", random.Random(0))
    theirs = torch.ones(count, 1, SIDE, SIDE)
    timms_erasing.RandomErasing(probability=1.0, device="cpu")(theirs)
    samples = []
    for mask in (erased(count), theirs[:, 0] == 0):
        top, left, height, width = rectangles(mask).double().unbind(1)
        free = (top / (SIDE - height), left / (SIDE - width))
        samples.append((height * width, height / width, height, width, *free)[which])
    one, other = samples
    # Kolmogorov and Smirnov: larger in one of 10^4 comparisons of equal distributions
    places = torch.cat(samples).unique()
    steps = [torch.searchsorted(x.sort().values, places, right=True) / count for x in (one, other)]
    assert (steps[0] - steps[1]).abs().max() < 2.23 * math.sqrt(2 / count)


def test_what_is_erased_is_zero_in_all_channels_and_the_rest_is_untouched():
    images = torch.randn(200, 3, SIDE, SIDE)
    numbers = torch.from_numpy(uniforms(1, 0, np.arange(200), ERASING_NUMBERS)).float()
    before = images.clone()
    result = random_erasing(images, numbers, 1.0)
    mask = erased(200, seed=1)[:, None].expand_as(images)
    assert torch.equal(result, torch.where(mask, 0.0, images))
    assert torch.equal(images, before)


def test_each_image_has_a_rectangle_of_its_own():
    places = rectangles(erased(200))
    assert len(places.unique(dim=0)) > 190
    numbers = torch.from_numpy(uniforms(0, 0, np.arange(200), ERASING_NUMBERS)).float()
    backwards = random_erasing(torch.ones(200, 1, SIDE, SIDE), numbers.flip(0), 1.0)
    assert torch.equal(rectangles(backwards[:, 0] == 0), places.flip(0))


def constants(*values, side=4):
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 1, side, side).contiguous()


def test_images_and_targets_are_mixed_with_those_from_the_other_end():
    images, targets = mixup(constants(1.0, 2.0, 4.0), torch.eye(3), 0.75)
    # 0.75 * 1 + 0.25 * 4, the middle one with itself, 0.75 * 4 + 0.25 * 1
    assert images[:, 0, 0, 0].tolist() == [1.75, 2.0, 3.25]
    assert targets.tolist() == [[0.75, 0, 0.25], [0, 1, 0], [0.25, 0, 0.75]]


def mixer(share, cuts=False):
    """timm's, with a share that is given and not drawn."""
    made = timms_mixup.Mixup(label_smoothing=0.1, num_classes=10)
    made._params_per_batch = lambda: (share, cuts)
    return made


@pytest.mark.parametrize("share", [0.0, 0.123, 0.5, 0.9, 1.0])
def test_mixed_images_are_timms_to_the_bit_and_the_loss_is_the_same(doubles, share):
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([3, 1, 4, 1, 5, 9])
    logits = torch.randn(6, 10)
    theirs, smooth = mixer(share)(images.clone(), labels)
    ours, targets = mixup(images, F.one_hot(labels, 10).double(), share)
    assert torch.equal(ours, theirs)
    loss = F.cross_entropy(logits, targets, label_smoothing=0.1)
    # the same sum of ten products, in another order
    assert loss.item() == pytest.approx(SoftTargetCrossEntropy()(logits, smooth).item(), rel=1e-14)


def test_a_box_of_the_other_image_lies_in_each():
    # sqrt(1 - 0.75) of 4 pixels: a box of 2 x 2 about (2, 2)
    images, targets = cutmix(constants(1.0, 2.0, 5.0), torch.eye(3), 0.75, (0.5, 0.5))
    assert images[0, 0].tolist() == [[1, 1, 1, 1], [1, 5, 5, 1], [1, 5, 5, 1], [1, 1, 1, 1]]
    assert (images[1] == 2).all()
    assert images[2, 0].tolist() == [[5, 5, 5, 5], [5, 1, 1, 5], [5, 1, 1, 5], [5, 5, 5, 5]]
    assert targets.tolist() == [[0.75, 0, 0.25], [0, 1, 0], [0.25, 0, 0.75]]


@pytest.mark.parametrize(
    ("centre", "rows", "columns"),
    [((0.0, 0.0), [0], [0]), ((0.99, 0.5), [2, 3], [1, 2]), ((0.5, 0.0), [1, 2], [0])],
)
def test_what_the_border_cuts_off_is_given_back(centre, rows, columns):
    images, targets = cutmix(constants(1.0, 0.0), torch.eye(2), 0.75, centre)
    box = (images[0, 0] == 0).nonzero()
    assert box.tolist() == [[row, column] for row in rows for column in columns]
    covered = len(rows) * len(columns) / 16
    assert targets.tolist() == [[1 - covered, covered], [covered, 1 - covered]]


@given(SHARES, SHARES, SHARES, st.integers(1, 40), st.integers(1, 7))
def test_the_target_tells_the_area(share, y, x, side, count):
    images = constants(*map(float, range(count)), side=side)
    centre = (y * 0.999, x * 0.999)
    mixed, targets = cutmix(images, torch.eye(count), share, centre)
    for i in range(count):
        for j in range(count):
            area = (mixed[i] == j).double().mean().item()
            assert targets[i, j].item() == pytest.approx(area, abs=1e-7)  # float32


@given(st.integers(0, 16), st.integers(0, 2**32 - 1))
def test_boxes_with_even_sides_are_timms(half, seed):
    share = 1 - (half / 16) ** 2  # exact
    state = np.random.get_state()
    np.random.seed(seed)
    top, bottom, left, right = timms_mixup.rand_bbox((SIDE, SIDE), share)
    np.random.seed(seed)
    centre = tuple((np.random.randint(0, SIDE) + 0.5) / SIDE for _ in range(2))
    np.random.set_state(state)
    mixed, _ = cutmix(constants(1.0, 0.0, side=SIDE), torch.eye(2), share, centre)
    expected = torch.ones(SIDE, SIDE)
    expected[top:bottom, left:right] = 0
    assert torch.equal(mixed[0, 0], expected)


@pytest.mark.parametrize("mix", [mixup, lambda *these: cutmix(*these, (0.4, 0.6))])
@given(st.integers(1, 9), SHARES)
def test_mixing_keeps_the_sum_of_targets_and_what_it_was_given(mix, count, share):
    images, targets = torch.rand(count, 2, 5, 6), torch.eye(count)
    before = images.clone()
    mixed, shares = mix(images, targets, share)
    assert mixed.shape == images.shape
    assert torch.equal(images, before)
    assert torch.equal(targets, torch.eye(count))
    for axis in (0, 1):
        assert shares.sum(axis).tolist() == pytest.approx([1] * count, abs=1e-6)  # float32


def test_frames_of_a_sample_are_treated_as_channels_of_an_image_are():
    frames = torch.rand(4, 3, 2, SIDE, SIDE)
    numbers = torch.from_numpy(uniforms(2, 0, np.arange(4), ERASING_NUMBERS)).float()
    operations = [
        lambda x: random_affine(x, numbers[:, :4], degrees=20, scale=0.2, translate=0.1),
        lambda x: random_erasing(x, numbers, 1.0),
        lambda x: mixup(x, torch.eye(4), 0.3)[0],
        lambda x: cutmix(x, torch.eye(4), 0.3, (0.2, 0.6))[0],
    ]
    for operation in operations:
        assert torch.equal(operation(frames).flatten(1, 2), operation(frames.flatten(1, 2)))
