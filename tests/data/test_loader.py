import pytest
import torch

from spikformer.data import Split, load_data
from spikformer.data.augment import random_affine
from spikformer.data.loader import EvaluationLoader, Pixels, TrainingLoader
from spikformer.errors import ConfigError

PREPARE = Pixels((0.5,), (0.25,), degrees=20, scale=0.2, translate=0.1)


def numbered(count):
    """Images that know their number."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    return Split(images.contiguous(), torch.arange(count))


def loader(count=23, batch_size=5, seed=0, workers=0, prepare=PREPARE):
    return TrainingLoader(
        numbered(count), prepare, batch_size=batch_size, seed=seed, workers=workers
    )


def same(ones, others):
    return len(ones) == len(others) and all(
        torch.equal(a, b)
        for one, other in zip(ones, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_pixels_are_normalised():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    # (p / 255 - 0.5) / 0.25 = -2, -1.2, 2
    assert Pixels((0.5,), (0.25,))(pixels).flatten().tolist() == pytest.approx([-2, -1.2, 2])


def test_an_epoch_delivers_every_sample_at_most_once_and_leaves_the_small_rest():
    batches = list(loader())
    assert [len(labels) for _, labels in batches] == [5] * 4 == [5] * len(loader())
    seen = torch.cat([labels for _, labels in batches])
    assert len(seen.unique()) == 20


def test_epochs_differ_in_order_and_in_augmentation():
    twice = loader(count=10, batch_size=10)
    (first, labels), (second, later) = (next(iter(twice)) for _ in range(2))
    assert labels.tolist() != later.tolist()
    assert not torch.equal(first[labels.argsort()], second[later.argsort()])


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_a_loader_told_its_place_goes_on_as_the_uninterrupted_one(stop):
    whole = loader()
    batches = [*whole, *whole]
    first = loader()
    for _, _ in zip(range(stop), first, strict=False):
        pass
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    rest = [*resumed, *resumed] if stop < 4 else list(resumed)
    assert same(rest, batches[stop:])


def test_the_place_is_told_without_exhausting_the_last_iteration():
    # A trainer that knows the length stops after the last batch and never asks for one more.
    training = loader()
    iterator = iter(training)
    for _ in range(len(training)):
        next(iterator)
    assert training.state_dict() == {"epoch": 0, "delivered": 4}
    next(iter(training))
    assert training.state_dict() == {"epoch": 1, "delivered": 1}


def test_workers_deliver_the_same_batches():
    assert same(list(loader(workers=2)), list(loader()))


def test_nothing_reads_or_moves_the_global_generator():
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    moved = list(loader())
    torch.manual_seed(1)
    assert same(moved, list(loader()))


def test_evaluation_sees_every_sample_once_in_order_and_unaugmented():
    batches = list(EvaluationLoader(numbered(23), PREPARE, batch_size=5))
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert labels.tolist() == list(range(23))
    assert torch.equal(images, Pixels((0.5,), (0.25,))(numbered(23).images))


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size must be at most the 23 .* got 24"):
        loader(batch_size=24)


def test_no_augmentation_leaves_images_to_the_bit():
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
    assert torch.allclose(turned.rot90(1, (2, 3)), image, atol=1e-5) or torch.allclose(
        turned.rot90(-1, (2, 3)), image, atol=1e-5
    )
    shifted = random_affine(
        image, torch.tensor([[0.5, 0.5, 0.0, 0.5]]), degrees=0, scale=0, translate=0.25
    )
    assert shifted[0, 0, 0].tolist() == pytest.approx([0, 0, 1, 0], abs=1e-5)


def test_augmented_digits_stay_digits():
    data = load_data("digits")
    batch, _ = next(
        iter(
            TrainingLoader(data.train, Pixels((0.0,), (1.0,), 12, 0.1, 0.08), batch_size=64, seed=0)
        )
    )
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert batch.mean().item() == pytest.approx(
        data.train.images.float().mean().item() / 255, rel=0.1
    )
