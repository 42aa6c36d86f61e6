"""Batches of event frames keep the promises that batches of images keep."""

import pytest
import torch
from helpers.recordings import nmnist, random_events

from spikformer.data import Split
from spikformer.data.frames import Slicing
from spikformer.data.loader import EvaluationLoader, Ranks, TrainingLoader
from spikformer.data.pixels import Augmentation, Pixels
from spikformer.data.recordings import Reading, Recording, Recordings
from spikformer.recipe import Augment

SIDE, COUNT = 12, 13
PIXELS = Pixels((0.0, 0.0), (1.0, 1.0), side=16)
EVERYTHING = Augment(flip=0.5, event_operation=True, mixup=0.5, mixing_share=0.5)
FEW_CORES = pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    recordings = []
    for n in range(COUNT):
        path = folder / f"{n}.bin"
        path.write_bytes(nmnist(random_events(80, SIDE, 9_000, seed=n)))
        recordings.append(Recording(path))
    read = Reading(Slicing(by="count", number=3), (SIDE, SIDE))
    return Split(Recordings(recordings, read, folder / "cache"), torch.arange(COUNT))


def loader(split, settings=EVERYTHING, **options):
    augment = Augmentation(PIXELS, settings, classes=COUNT, seed=0)
    return TrainingLoader(split, augment, batch_size=2, seed=0, **options)


def same(ones, others):
    pairs = zip(ones, others, strict=True)
    return all(torch.equal(a, b) for p in pairs for a, b in zip(*p, strict=True))


def test_batches_are_frames_brought_to_size(split):
    images, targets = next(iter(loader(split)))
    assert images.shape == (2, 3, 2, 16, 16)
    assert targets.shape == (2, COUNT)
    (plain, labels), *_ = EvaluationLoader(split, PIXELS, batch_size=5)
    assert labels.tolist() == list(range(5))
    middle = split.images[torch.arange(5)]
    assert torch.equal(plain[..., 2:14, 2:14], middle)
    assert plain.sum() == middle.sum()  # all around is nothing


@FEW_CORES
def test_workers_change_nothing(split):
    assert same(list(loader(split)), list(loader(split, workers=2)))


@pytest.mark.parametrize("stop", [1, 4])
def test_a_loader_that_was_broken_off_goes_on_with_the_next_batch(split, stop):
    whole = loader(split)
    expected = [*whole, *whole]
    first = loader(split)
    begun = [batch for batch, _ in zip(first, range(stop), strict=False)]
    second = loader(split)
    second.load_state_dict({"epoch": 0, "delivered": stop})
    assert same([*begun, *second, *second], expected)


def test_ranks_share_no_sample(split):
    plain = Augment()
    seen = [
        {int(n) for _, labels in loader(split, plain, ranks=Ranks(rank, 2)) for n in labels}
        for rank in (0, 1)
    ]
    assert len(seen[0]) == len(seen[1]) == 6
    assert seen[0].isdisjoint(seen[1])


def test_a_share_of_the_batches_is_mixed(split):
    many = loader(split)
    mixed = [bool((targets.max(1).values < 1).any()) for _ in range(60) for _, targets in many]
    assert sum(mixed) / len(mixed) == pytest.approx(0.5, abs=0.1)
    fewer = Augment(mixup=0.5, mixing_share=0.0)
    assert all((targets.max(1).values == 1).all() for _, targets in loader(split, fewer))
