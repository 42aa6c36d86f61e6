import dataclasses
import random

import numpy as np
import pytest
import torch
from PIL import Image

from spikformer.data import load_data
from spikformer.data import pixels as pixels_module
from spikformer.data.pixels import Augmentation, Pixels
from spikformer.recipe import Augment
from spikformer.recipes import RECIPES, find_recipe

CIFAR = Pixels((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
AUTHORS = find_recipe("cifar10").augment
GREY = Pixels((0.0,), (1.0,))


def noise(count, channels=3, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), generator=generator).byte()


def augmented(
    images, settings=AUTHORS, pixels=CIFAR, *, labels=None, seed=0, epoch=0, batch=0, first=0
):
    labels = torch.arange(len(images)) % 10 if labels is None else labels
    samples = np.arange(first, first + len(images))
    augment = Augmentation(pixels, settings, classes=10, seed=seed)
    return augment(images, labels, epoch=epoch, samples=samples, batch=batch)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_pixels_are_normalised():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    # (p / 255 - 0.5) / 0.25 = -2, -1.2, 2
    assert Pixels((0.5,), (0.25,))(pixels).flatten().tolist() == pytest.approx([-2, -1.2, 2])


def test_every_channel_has_a_mean_and_a_deviation_of_its_own():
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    # white less the mean, over the deviation: 1 over 1, half over a quarter, nothing over 2
    assert Pixels((0.0, 0.5, 1.0), (1.0, 0.25, 2.0))(pixels).flatten().tolist() == [1, 2, 0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [33, 48, 64, 224])
def test_enlarging_is_pillows_bicubic_to_rounding(channels, side):
    # Rows, then columns, each rounded to whole levels, in fixed point of other widths. A level that
    # rounds otherwise in the first weighs up to 1.25 (the sum of absolute weights at a = -1/2) in
    # the second, which rounds as well: 2 at most. Measured: at most 1.2 % of the pixels differ.
    images = noise(16, channels)
    enlarged = Pixels((0.0,) * channels, (1.0,) * channels, side=side).sized(images)
    for image, ours in zip(images, enlarged, strict=True):
        theirs = Image.fromarray(image.movedim(0, -1).squeeze(-1).numpy())
        theirs = np.array(theirs.resize((side, side), Image.Resampling.BICUBIC))
        difference = np.abs(ours.movedim(0, -1).squeeze(-1).numpy().astype(int) - theirs)
        assert difference.max() <= 2
        assert (difference > 0).mean() < 0.02


def test_images_of_the_right_side_are_left():
    images = noise(2)
    assert Pixels((0.0,) * 3, (1.0,) * 3, side=32).sized(images) is images
    assert GREY.sized(images) is images


def test_training_and_evaluation_enlarge_alike():
    large = dataclasses.replace(CIFAR, side=48)
    images, _ = augmented(noise(4), Augment(), large)
    assert images.shape == (4, 3, 48, 48)
    assert torch.equal(images, large(noise(4)))


def test_no_augmentation_is_none():
    labels = torch.tensor([3, 1, 4, 1])
    images, targets = augmented(noise(4), Augment(), labels=labels)
    assert torch.equal(images, CIFAR(noise(4)))
    assert torch.equal(targets, labels)


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if find_recipe(name).data.name == "cifar10"]
)
def test_an_image_of_the_mean_colour_passes_all_augmentation(name):
    # 125, 123, 114 are up to 0.0049 of a deviation off the mean; erasing sets to the mean itself.
    colour = torch.tensor([125, 123, 114], dtype=torch.uint8)[:, None, None]
    before, augment = CIFAR(colour.expand(128, 3, 32, 32)), find_recipe(name).augment
    assert before.abs().max() < 0.02
    for batch in range(4):
        images = colour.expand(128, 3, 32, 32).contiguous()
        after, _ = augmented(images, augment, batch=batch, first=128 * batch)
        assert (after - before).abs().max() < 0.02
        assert (after == 0).all(1).any()  # erasing took part, or a corner was turned in


def mean_largest_target(settings, epoch, batches=780, size=128):
    """Over as many batches as two epochs have; small images, since targets do not see them."""
    images, generator = noise(size, side=2), torch.Generator().manual_seed(0)
    augment = Augmentation(CIFAR, settings, classes=10, seed=42)
    total = 0.0
    for batch in range(batches):
        labels = torch.randint(0, 10, (size,), generator=generator)
        samples = np.arange(size * batch, size * (batch + 1))
        _, targets = augment(images, labels, epoch=epoch, samples=samples, batch=batch)
        total += (0.9 * targets + 0.1 / 10).amax(1).mean().item()
    return total / batches


def test_the_authors_still_mix_at_epoch_250():
    # The larger of two shares from Beta(1/2, 1/2) is 1/2 + 1/pi = 0.818 on average; one in ten
    # partners has the same label: 0.9 * 0.818 + 0.1 = 0.8365, smoothed 0.763. The mean of 780
    # batches lies within 0.009 of it, two standard errors.
    assert AUTHORS.mixing_epochs is None
    assert mean_largest_target(AUTHORS, epoch=250) == pytest.approx(0.76, abs=0.01)


def test_mixing_that_stops_at_epoch_200_would_show():
    until_200 = dataclasses.replace(AUTHORS, mixing_epochs=200)
    assert mean_largest_target(until_200, epoch=250, batches=50) == pytest.approx(0.91, abs=1e-6)
    assert mean_largest_target(until_200, epoch=200, batches=5) == pytest.approx(0.91, abs=1e-6)
    assert mean_largest_target(until_200, epoch=199, batches=50) < 0.85


def test_a_batch_is_a_function_of_its_names():
    images, names = noise(64), {"seed": 1, "epoch": 2, "batch": 3, "first": 4}
    once = augmented(images, **names)
    assert same(once, augmented(images, **names))
    for name in names:
        assert not same(once, augmented(images, **names | {name: 9})), name


@pytest.mark.parametrize(
    "settings",
    [
        Augment(flip=0.5),
        Augment(rand_augment=True),
        Augment(degrees=20),
        Augment(scale=0.2),
        Augment(translate=0.2),
        Augment(erasing=0.5),
    ],
    ids=lambda settings: next(k for k, v in vars(settings).items() if v),
)
def test_what_becomes_of_a_sample_depends_on_seed_epoch_and_sample_alone(settings):
    images = noise(64)
    whole, _ = augmented(images, settings)
    part, _ = augmented(images[16:48], settings, batch=2, first=16)
    assert torch.equal(part, whole[16:48])
    for name in ("seed", "epoch", "first"):
        assert not torch.equal(augmented(images, settings, **{name: 9})[0], whole), name


def test_global_generators_are_neither_read_nor_moved():
    settings = dataclasses.replace(AUTHORS, cutmix=1.0, degrees=10, scale=0.1, translate=0.1)
    images = noise(32)

    def states():
        _, words, *place = np.random.get_state()
        return torch.get_rng_state().tolist(), words.tolist(), place

    before = states()
    once = [augmented(images, settings, batch=batch) for batch in range(8)]
    assert states() == before
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    for batch, earlier in enumerate(once):
        assert same(augmented(images, settings, batch=batch), earlier)


def test_half_of_the_images_are_mirrored_and_the_others_left():
    images = noise(4000, channels=1, side=4)
    flipped, _ = augmented(images, Augment(flip=0.5), GREY)
    mirrored = (flipped == GREY(images.flip(-1))).flatten(1).all(1)
    left = (flipped == GREY(images)).flatten(1).all(1)
    assert (mirrored ^ left).all()
    # five standard deviations of 4,000 throws
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_all_or_none_are_mirrored_when_told():
    images = noise(100)
    assert torch.equal(augmented(images, Augment(flip=1.0))[0], CIFAR(images.flip(-1)))
    assert torch.equal(augmented(images, Augment(flip=0.0))[0], CIFAR(images))


def test_erasing_comes_after_mixing():
    # Before it, rectangles of two images would lie half transparent in a half of the others.
    images, _ = augmented(noise(1000), dataclasses.replace(AUTHORS, rand_augment=False))
    blank = (images == 0).all(1).flatten(1).sum(1)
    assert set(blank.ge(15).nonzero()[:, 0].tolist()) == set(blank.nonzero()[:, 0].tolist())
    assert blank.gt(0).double().mean().item() == pytest.approx(0.25, abs=0.07)  # five deviations


def test_a_batch_mixes_by_one_share():
    labels = torch.tensor([0, 1, 2, 3, 4])
    _, targets = augmented(noise(5), Augment(mixup=0.5), labels=labels)
    share = targets[0, 0].item()
    assert 0 < share < 1
    expected = share * torch.eye(10)[:5] + (1 - share) * torch.eye(10)[:5].flip(0)
    assert torch.allclose(targets, expected, atol=1e-7)  # float32


def test_shares_come_from_the_beta_distribution():
    # Beta(2, 2) has the mean 1/2 and the variance 1/20.
    shares = [
        augmented(noise(2, side=1), Augment(mixup=2.0), labels=torch.arange(2), batch=i)[1][0, 0]
        for i in range(2000)
    ]
    shares = torch.stack(shares).double()
    assert shares.mean().item() == pytest.approx(0.5, abs=0.025)  # five standard deviations
    assert shares.var().item() == pytest.approx(0.05, rel=0.1)


def test_with_both_each_batch_is_mixed_one_way_or_the_other():
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[1] = 255
    ways = []
    for batch in range(200):
        mixed, _ = augmented(images, Augment(mixup=1.0, cutmix=1.0), batch=batch)
        blended = len(mixed[0, 0].unique()) == 1 and not torch.isin(mixed, CIFAR(images)).all()
        ways.append(blended)
    assert 65 < sum(ways) < 135  # five standard deviations


def test_cutmix_alone_pastes_and_its_targets_tell_how_much():
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    images[1] = 255
    labels = torch.arange(2)
    areas = []
    for batch in range(50):
        mixed, targets = augmented(images, Augment(cutmix=1.0), GREY, labels=labels, batch=batch)
        assert set(mixed.unique().tolist()) <= {0.0, 1.0}
        areas.append(mixed[0].mean().item())
        assert targets[0, 1].item() == pytest.approx(areas[-1])
    assert max(areas) > 0.3


def test_the_largest_number_that_is_drawn_chooses_the_last_operation(monkeypatch):
    def largest(seed, epoch, samples, count):
        return np.full((len(samples), count), np.nextafter(1.0, 0.0))

    monkeypatch.setattr(pixels_module, "uniforms", largest)
    images = noise(1, channels=1)
    moved, _ = augmented(images, Augment(rand_augment=True), GREY)
    # downwards by the largest magnitude, 0.45 * 32 = 14.4 pixels: 14 rows come in from outside
    assert (moved[0, 0, :14] == 0).all()
    assert moved[0, 0, 14:].ne(0).any(1).all()


def test_augmented_digits_stay_digits():
    train = load_data("digits").train
    settings = Augment(degrees=12, scale=0.1, translate=0.08)
    batch, _ = augmented(train.images[:64], settings, GREY, labels=train.labels[:64])
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert batch.mean().item() == pytest.approx(
        train.images[:64].float().mean().item() / 255, rel=0.1
    )
