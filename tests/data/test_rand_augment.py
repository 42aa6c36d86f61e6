import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from timm.data import auto_augment

from spikformer.data.rand_augment import OPERATIONS, equalize, move, rand_augment
from spikformer.data.randomness import uniforms

FILL = (125, 123, 114)  # the mean of CIFAR-10, as timm rounds it
TIMMS = {
    "equalize": "Equalize",
    "rotate": "Rotate",
    "shear_x": "ShearX",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 40)
# Pillow rounds sines to 15 digits: that is seen where an angle is itself as small as rounding errors.
MAGNITUDES = st.just(0.0) | st.floats(0.01, 10)
WAYS = st.sampled_from([1, -1])


def noise(seed, count, channels, height, width, values=256):
    generator = np.random.default_rng(seed)
    palette = generator.integers(0, 256, values, dtype=np.uint8)
    return torch.from_numpy(
        palette[generator.integers(0, values, (count, channels, height, width))]
    )


def to_pil(image):
    values = image.movedim(0, -1).numpy()
    return Image.fromarray(values[..., 0] if len(image) == 1 else values)


def from_pil(image):
    values = np.array(image)
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).movedim(-1, 0)


def per_image(images, change):
    return torch.stack([from_pil(change(to_pil(image))) for image in images])


def timms(image, name, magnitude, way, fill=FILL):
    """What timm makes of one Pillow image, at a sign that is given and not drawn."""
    hparams = {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
    operation = auto_augment.AugmentOp(TIMMS[name], prob=1.0, hparams=hparams)
    if operation.level_fn is None:
        return operation.aug_fn(image, **operation.kwargs)
    (argument,) = operation.level_fn(magnitude, operation.hparams)
    return operation.aug_fn(image, way * abs(argument), **operation.kwargs)


def ours(images, name, magnitude, way, fill=FILL):
    """The same, by the numbers that lead there."""
    which = (OPERATIONS.index(name) + 0.5) / len(OPERATIONS)
    numbers = torch.tensor([[0.75, which, 0.5, 0.25 if way > 0 else 0.75]]).expand(len(images), -1)
    return rand_augment(images, numbers, magnitude=magnitude, deviation=0.0, fill=fill)


def test_equalizing_spreads_values_by_their_rank():
    # 517 pixels, of which 510 are not of the highest value: a step of 2. A value becomes half a
    # step and the pixels below it, in steps: (1 + 0) // 2, (1 + 255) // 2, (1 + 510) // 2.
    values = torch.tensor([5] * 255 + [9] * 255 + [11] * 7, dtype=torch.uint8)
    image = values.reshape(1, 1, 11, 47)
    assert equalize(image).flatten().unique_consecutive().tolist() == [0, 128, 255]


def test_too_few_pixels_to_spread_are_left():
    few = noise(0, 3, 3, 15, 17)  # 255 pixels, of which less than 255 are below the highest
    assert torch.equal(equalize(few), few)


@given(SEEDS, SIDES, SIDES, st.integers(1, 256))
def test_equalizing_is_pillows_to_the_bit(seed, height, width, values):
    images = noise(seed, 3, 3, height, width, values)
    assert torch.equal(equalize(images), per_image(images, ImageOps.equalize))


@pytest.mark.parametrize("shape", [(32, 32), (16, 16), (22, 23), (16, 32), (1, 509), (224, 224)])
@pytest.mark.parametrize("values", [1, 2, 5, 256])
def test_equalizing_many_or_few_values_is_pillows_to_the_bit(shape, values):
    # 506, 512, 509 pixels: steps of 1, whose table exceeds 255 beyond the highest value
    images = noise(values, 4, 3, *shape, values)
    assert torch.equal(equalize(images), per_image(images, ImageOps.equalize))


def test_equalizing_photographs_is_pillows_to_the_bit(cifar):
    images = cifar("cifar10").test.images[:500]
    assert torch.equal(equalize(images), per_image(images, ImageOps.equalize))


def test_moving_half_a_pixel_is_the_cubic_with_a_of_minus_one():
    # weights -1/8, 5/8, 5/8, -1/8: 50 + 100 - 30; at the border the last pixel is repeated
    image = torch.tensor([0, 80, 160, 240], dtype=torch.uint8).reshape(1, 1, 1, 4)
    half = torch.tensor([[1, 0, 0.5, 0, 1, 0]], dtype=torch.float64)
    # 0.625 * 80 - 0.125 * 160 = 30; 120; 0.625 * 400 - 0.125 * 320 = 210; the edge itself is outside
    assert move(image, half, (7,)).flatten().tolist() == [30, 120, 210, 7]


def test_moving_whole_pixels_moves_them_and_lets_the_fill_in():
    images = noise(0, 1, 3, 5, 6)
    two_right_one_up = torch.tensor([[1, 0, -2, 0, 1, 1]], dtype=torch.float64)
    moved = move(images, two_right_one_up, FILL)
    assert torch.equal(moved[..., :4, 2:], images[..., 1:, :4])
    filled = torch.tensor(FILL, dtype=torch.uint8)[:, None]
    assert (moved[0, :, :, :2].flatten(1) == filled).all()
    assert (moved[0, :, 4] == filled).all()


@given(SEEDS, SIDES, SIDES, st.sampled_from([1, 3]))
def test_moving_is_pillows_affine_transform_to_the_bit(seed, height, width, channels):
    images = noise(seed, 4, channels, height, width)
    generator = np.random.default_rng(seed)
    maps = generator.normal(0, [1, 0.3, 5, 0.3, 1, 5], (4, 6))
    fill = FILL[:channels]
    for image, moved, one in zip(
        images, move(images, torch.from_numpy(maps), fill), maps, strict=True
    ):
        theirs = to_pil(image).transform(
            (width, height),
            Image.Transform.AFFINE,
            one.tolist(),
            Image.Resampling.BICUBIC,
            fillcolor=fill if channels == 3 else fill[0],
        )
        assert torch.equal(moved, from_pil(theirs))


@given(SEEDS, st.sampled_from([8, 16, 32, 30]), st.sampled_from([16, 32, 48]), MAGNITUDES, WAYS)
def test_rotating_is_pillows_to_the_bit(seed, height, width, magnitude, way):
    images = noise(seed, 4, 3, height, width)
    theirs = per_image(
        images,
        lambda image: image.rotate(way * 3 * magnitude, Image.Resampling.BICUBIC, fillcolor=FILL),
    )
    assert torch.equal(ours(images, "rotate", magnitude, way), theirs)


def test_only_the_middle_pixel_of_odd_sides_may_differ_and_by_one_level():
    # It stays in its place, up to rounding errors that Pillow makes otherwise. Values are cut off,
    # not rounded, so the least error below a whole number is a whole level.
    images = noise(0, 10, 3, 17, 31)
    for magnitude in np.linspace(0.25, 10, 40):
        theirs = per_image(images, lambda image, m=magnitude: timms(image, "rotate", m, 1))
        differences = ours(images, "rotate", float(magnitude), 1).int() - theirs.int()
        assert differences[..., 8, 15].abs().max() <= 1
        differences[..., 8, 15] = 0
        assert not differences.any()


@pytest.mark.parametrize("name", OPERATIONS)
@given(SEEDS, MAGNITUDES, WAYS)
def test_every_operation_is_timms_to_the_bit(name, seed, magnitude, way):
    images = noise(seed, 4, 3, 32, 32)
    theirs = per_image(images, lambda image: timms(image, name, magnitude, way))
    assert torch.equal(ours(images, name, magnitude, way), theirs)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(16, 16), (224, 224), (24, 36)])
def test_every_operation_is_timms_at_other_sizes_too(name, shape):
    images = noise(1, 2, 3, *shape)
    for magnitude, way in ((0.0, 1), (3.3, -1), (9.0, 1), (9.4321, -1), (10.0, -1)):
        theirs = per_image(images, lambda image, m=magnitude, w=way: timms(image, name, m, w))
        assert torch.equal(ours(images, name, magnitude, way), theirs)


@pytest.mark.parametrize("name", ["translate_x", "translate_y"])
@pytest.mark.parametrize("side", [16, 20, 32, 40])
def test_shifts_by_half_pixels_are_timms_to_the_bit(name, side):
    # Then edges lie on edges, and a rounding error decides whether a whole line is outside.
    images = noise(2, 2, 3, side, side)
    for halves in range(1, int(0.9 * side)):
        magnitude = 10 * halves / (0.9 * side)
        for way in (1, -1):
            theirs = per_image(images, lambda image, m=magnitude, w=way: timms(image, name, m, w))
            assert torch.equal(ours(images, name, magnitude, way), theirs)


def drawn(count, seed=0):
    return torch.from_numpy(uniforms(seed, 0, np.arange(count), 4)).float()


def test_a_drawn_batch_is_timms_to_the_bit():
    images, numbers = noise(3, 400, 3, 32, 32), drawn(400)
    changed = rand_augment(images, numbers, magnitude=9.0, deviation=0.4, fill=FILL)
    for image, result, row in zip(images, changed, numbers.tolist(), strict=True):
        whether, which, how_much, way = row
        expected = image
        if whether >= 0.5:
            magnitude = min(NormalDist(9.0, 0.4).inv_cdf(how_much), 10.0)
            name = OPERATIONS[int(5 * which)]
            way = 1 if way < 0.5 else -1
            expected = from_pil(timms(to_pil(image), name, magnitude, way))
        assert torch.equal(result, expected)


def test_photographs_become_what_timm_makes_of_them(cifar):
    images = cifar("cifar10").test.images[:100]
    for name in OPERATIONS:
        for way in (1, -1):
            theirs = per_image(images, lambda image, n=name, w=way: timms(image, n, 9.2, w))
            assert torch.equal(ours(images, name, 9.2, way), theirs)


def test_one_call_changes_half_of_noise_images():
    # 2 % are 2.5 standard deviations of 4,000 throws; the throws are always the same
    images, numbers = noise(4, 4000, 3, 32, 32), drawn(4000)
    changed = [
        (rand_augment(some, row, magnitude=9.0, deviation=0.4, fill=FILL) != some).flatten(1).any(1)
        for some, row in zip(images.split(200), numbers.split(200), strict=True)
    ]
    assert torch.cat(changed).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_operations_and_ways_are_chosen_equally_often():
    image = noise(5, 1, 1, 32, 32)
    outcomes = {
        (name, way): ours(image, name, 9.0, way, FILL[:1])[0]
        for name in OPERATIONS
        for way in (1, -1)
    }
    counts = dict.fromkeys([None, *outcomes], 0)
    for row in drawn(10_000).split(500):
        images = image.expand(len(row), -1, -1, -1)
        changed = rand_augment(images, row, magnitude=9.0, deviation=0.0, fill=FILL[:1])
        for kind, outcome in {None: image[0], **outcomes}.items():
            counts[kind] += (changed == outcome).flatten(1).all(1).sum().item()
    # five standard deviations: 0.5 * (1 - 0.5) over 10,000 is 0.005 squared, and so on
    assert counts[None] / 10_000 == pytest.approx(0.5, abs=0.025)
    equalized = counts.pop(("equalize", 1)), counts.pop(("equalize", -1))
    assert equalized[0] == equalized[1]  # it has no way, so both outcomes are one
    assert equalized[0] / 10_000 == pytest.approx(0.1, abs=0.015)
    for kind in counts.keys() - {None}:
        assert counts[kind] / 10_000 == pytest.approx(0.05, abs=0.011), kind
    assert sum(counts.values()) + equalized[0] == 10_000


@pytest.mark.parametrize(("magnitude", "deviation"), [(9.0, 0.4), (0.2, 0.4)])
def test_magnitudes_are_normal_and_cut_to_0_and_10(magnitude, deviation):
    # A shift to the left by s pixels brings in those columns x for which x + 1/2 + s >= width.
    width, shares = 1000, (np.arange(200) + 0.5) / 200
    numbers = torch.full((200, 4), 0.25)
    numbers[:, 0], numbers[:, 1], numbers[:, 2] = 0.5, 0.7, torch.from_numpy(shares)
    images = torch.full((200, 1, 1, width), 200, dtype=torch.uint8)
    changed = rand_augment(images, numbers, magnitude=magnitude, deviation=deviation, fill=(9,))
    normal = NormalDist(magnitude, deviation)
    levels = [min(max(normal.inv_cdf(share), 0), 10) / 10 for share in numbers[:, 2].tolist()]
    expected = [math.floor(0.45 * width * level + 0.5) for level in levels]
    assert (changed == 9).flatten(1).sum(1).tolist() == expected
    assert changed[..., 0].eq(200).all()


def test_what_becomes_of_an_image_depends_on_its_own_numbers_alone():
    images, numbers = noise(6, 64, 3, 16, 16), drawn(64)
    together = rand_augment(images, numbers, magnitude=9.0, deviation=0.4, fill=FILL)
    for i in range(len(images)):
        alone = rand_augment(
            images[i : i + 1], numbers[i : i + 1], magnitude=9.0, deviation=0.4, fill=FILL
        )
        assert torch.equal(alone[0], together[i])


def test_the_images_handed_in_stay_as_they_were():
    images = noise(7, 64, 3, 16, 16)
    before = images.clone()
    rand_augment(images, drawn(64), magnitude=9.0, deviation=0.4, fill=FILL)
    assert torch.equal(images, before)
