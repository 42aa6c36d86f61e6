import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikformer.data import Split
from spikformer.data.loader import EvaluationLoader, Ranks, TrainingLoader
from spikformer.data.pixels import Augmentation, Pixels
from spikformer.errors import ConfigError
from spikformer.recipe import Augment

PIXELS = Pixels((0.5,), (0.25,))
AFFINE = Augment(degrees=20, scale=0.2, translate=0.1)
FEW_CORES = pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
MIXING = Augment(flip=0.5, rand_augment=True, mixup=0.5, cutmix=1.0, erasing=0.25)


def numbered(count):
    """Images that know their number."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    return Split(images.contiguous(), torch.arange(count))


def loader(count=23, batch_size=5, seed=0, settings=AFFINE, **options):
    augment = Augmentation(PIXELS, settings, classes=count, seed=seed)
    return TrainingLoader(numbered(count), augment, batch_size=batch_size, seed=seed, **options)


def same(ones, others):
    return len(ones) == len(others) and all(
        torch.equal(a, b)
        for one, other in zip(ones, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def labels_of(batches):
    return [label for _, labels in batches for label in labels.tolist()]


def test_an_epoch_delivers_every_sample_at_most_once_and_leaves_the_small_rest():
    batches = list(loader())
    assert [len(labels) for _, labels in batches] == [5] * 4 == [5] * len(loader())
    assert len(set(labels_of(batches))) == 20


def test_epochs_differ_in_order_and_in_augmentation():
    twice = loader(count=10, batch_size=10)
    (first, labels), (second, later) = (next(iter(twice)) for _ in range(2))
    assert labels.tolist() != later.tolist()
    assert not torch.equal(first[labels.argsort()], second[later.argsort()])


def test_seeds_differ_in_order():
    assert labels_of(loader(seed=0)) != labels_of(loader(seed=1))


def test_how_a_sample_is_turned_says_nothing_about_when_it_comes():
    images = torch.zeros(500, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 8] = 255  # on the right; turned, it rises or sinks
    split = Split(images, torch.arange(500))
    augment = Augmentation(Pixels((0.0,), (1.0,)), Augment(degrees=45), classes=500, seed=0)
    whole = TrainingLoader(split, augment, batch_size=50, seed=0)
    turned = torch.cat([images for images, _ in whole]).double()[:, 0]
    heights = (turned.sum(2) @ torch.arange(9.0, dtype=torch.float64)) / turned.sum((1, 2))
    correlation = np.corrcoef(heights.numpy(), np.arange(500))[0, 1]
    assert abs(correlation) < 0.22  # five standard errors of 500 samples


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
@pytest.mark.parametrize("settings", [AFFINE, MIXING])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}])
def test_a_loader_told_its_place_goes_on_as_the_uninterrupted_one(stop, settings, options):
    whole = loader(settings=settings, **options)
    batches = [*whole, *whole]
    first = loader(settings=settings, **options)
    for _, _ in zip(range(stop), first, strict=False):
        pass
    resumed = loader(settings=settings, **options)
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


@FEW_CORES
@pytest.mark.parametrize("settings", [AFFINE, MIXING])
def test_workers_deliver_the_same_batches(settings):
    assert same(list(loader(settings=settings, workers=2)), list(loader(settings=settings)))


def test_nothing_reads_or_moves_the_global_generators():
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()
    list(loader(settings=MIXING))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpys
    torch.manual_seed(99)
    moved = list(loader(settings=MIXING))
    torch.manual_seed(1)
    assert same(moved, list(loader(settings=MIXING)))


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size must be at most the 23 .* got 24$"):
        loader(batch_size=24)


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        ({"accumulate": 5}, 5),
        ({"ranks": Ranks(0, 6)}, 6),
        ({"accumulate": 2, "ranks": Ranks(2, 3)}, 6),
    ],
)
def test_a_step_larger_than_the_split_is_refused(options, slots):
    message = rf"at most the 23 training samples, got 5 x {slots} batches a step"
    with pytest.raises(ConfigError, match=message):
        loader(**options)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 40))
def test_ranks_share_no_sample_and_drop_what_fills_no_step(batch_size, world, accumulate, rest):
    step = batch_size * world * accumulate
    count = step + rest
    options = {"count": count, "batch_size": batch_size, "accumulate": accumulate}
    ranks = [loader(**options, ranks=Ranks(rank, world)) for rank in range(world)]
    steps = count // step
    assert [len(rank) for rank in ranks] == [steps * accumulate] * world
    seen = [labels_of(rank) for rank in ranks]
    together = [label for labels in seen for label in labels]
    assert len(together) == len(set(together)) == steps * step
    # each step takes as many, and they are those of one rank that accumulates more
    alone = labels_of(loader(count, batch_size, accumulate=accumulate * world))
    mine = batch_size * accumulate
    for i in range(steps):
        of_step = {label for labels in seen for label in labels[i * mine : (i + 1) * mine]}
        assert of_step == set(alone[i * step : (i + 1) * step])


@pytest.mark.parametrize(("world", "accumulate"), [(8, 1), (4, 2), (2, 4)])
def test_eight_batches_a_step_are_the_same_however_they_are_spread(world, accumulate):
    options = {"count": 103, "batch_size": 5, "settings": MIXING}
    alone = loader(**options, accumulate=8)
    ranks = [loader(**options, accumulate=accumulate, ranks=Ranks(r, world)) for r in range(world)]
    for _ in range(2):  # epochs
        rounds = zip(*ranks, strict=True)  # one batch of every rank
        spread = [batch for together in rounds for batch in together]
        assert same(spread, list(alone))
    assert alone.epoch == 1


def test_every_batch_of_every_rank_and_epoch_is_mixed_by_a_share_of_its_own():
    ranks = [loader(103, 5, settings=Augment(mixup=1.0), ranks=Ranks(r, 4)) for r in range(4)]
    largest = [targets[0].max().item() for rank in ranks for _ in range(2) for _, targets in rank]
    assert len(set(largest)) == len(largest) == 2 * 20


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_rank_told_its_place_goes_on_as_the_uninterrupted_one(stop):
    options = {"count": 100, "settings": MIXING, "accumulate": 3, "ranks": Ranks(1, 2)}
    batches = list(loader(**options))
    assert len(batches) == 9
    first = loader(**options)
    for _, _ in zip(range(stop), first, strict=False):
        pass
    assert first.state_dict() == {"epoch": 0, "delivered": stop}
    resumed = loader(**options)
    resumed.load_state_dict(first.state_dict())
    assert same(list(resumed), batches[stop:])


def test_waiting_is_counted_and_the_work_in_between_is_not():
    training = loader()
    assert training.waited == 0
    begun, slept = time.monotonic(), 0.0
    for _ in training:
        paused = time.monotonic()
        time.sleep(0.02)
        slept += time.monotonic() - paused
    assert 0 < training.waited <= time.monotonic() - begun - slept
    before = training.waited
    next(iter(training))
    assert training.waited > before


def test_evaluation_sees_every_sample_once_in_order_and_unaugmented():
    batches = list(EvaluationLoader(numbered(23), PIXELS, batch_size=5))
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert labels.tolist() == list(range(23))
    assert torch.equal(images, PIXELS(numbered(23).images))


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 7))
def test_ranks_evaluate_every_sample_exactly_once(count, world, batch_size):
    seen = []
    for rank in range(world):
        part = EvaluationLoader(
            numbered(count), PIXELS, batch_size=batch_size, ranks=Ranks(rank, world)
        )
        batches = list(part)
        assert len(batches) == len(part)
        assert all(1 <= len(labels) <= batch_size for _, labels in batches)
        seen += labels_of(batches)
    assert sorted(seen) == list(range(count))


def test_ranks_without_a_sample_evaluate_nothing():
    part = EvaluationLoader(numbered(3), PIXELS, workers=1, ranks=Ranks(3, 8))
    assert len(part) == 0
    assert list(part) == []


@FEW_CORES
def test_workers_evaluate_the_same_batches():
    ranks = Ranks(1, 3)
    alone, helped = (
        list(EvaluationLoader(numbered(23), PIXELS, batch_size=3, workers=workers, ranks=ranks))
        for workers in (0, 2)
    )
    assert same(helped, alone)
