"""Batches: the same ones on every machine, from wherever one left off."""

import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from spikformer.data._dataset import Split
from spikformer.data.pixels import Augmentation, Images, Pixels, Targets
from spikformer.data.randomness import permutation
from spikformer.errors import ConfigError

Batch = tuple[Images, Targets]


class Ranks(NamedTuple):
    """Which of the processes that train together this is.

    Args:
        rank: This one, from 0.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1


ALONE = Ranks()


class TrainingLoader:
    """Shuffled, augmented batches, whose place is (epoch, batches delivered) and nothing else.

    Order and augmentation are functions of (seed, epoch, sample). So a loader that was told its
    place goes on exactly as the one that was interrupted there, with any number of workers. Each
    iteration goes on where the last one stopped; after a full one it starts the next epoch.

    A step takes `accumulate * world` batches: all ranks' at once, `accumulate` times. Which batches
    make a step depends on that product alone, so 8 ranks and 8 accumulated batches see the same.

    Args:
        split: What to train on.
        augment: From pixels and labels to input and targets.
        batch_size: Samples a batch; what does not fill a step is left out.
        seed: Decides the order.
        workers: Processes that prepare batches; 0 for none.
        accumulate: Batches of one rank that make a step.
        ranks: Which process this is.

    Raises:
        ConfigError: when the split does not fill one step.
    """

    def __init__(
        self,
        split: Split,
        augment: Augmentation,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        accumulate: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        self.slots = accumulate * ranks.world
        if batch_size * self.slots > len(split):
            times = f" x {self.slots} batches a step" if self.slots > 1 else ""
            raise ConfigError(
                f"batch_size must be at most the {len(split)} training samples, "
                f"got {batch_size}{times}"
            )
        self.samples = _Samples(split, augment)
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.accumulate = accumulate
        self.ranks = ranks
        self.epoch = 0
        self.delivered = 0
        self.waited = 0.0
        """Seconds spent waiting for batches, since somebody set it to 0."""

    def __len__(self) -> int:
        return len(self.samples) // (self.batch_size * self.slots) * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        if self.delivered >= len(self):
            self.epoch, self.delivered = self.epoch + 1, 0
        batches = _deliver(self.samples, self._keys(), self.workers)
        while True:
            begun = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - begun
            if batch is None:
                return
            self.delivered += 1
            yield batch

    def _keys(self) -> "list[Key]":
        """What is left of this epoch for this rank."""
        order = permutation(self.seed, self.epoch, len(self.samples))
        total = len(self) * self.ranks.world
        batches = order[: total * self.batch_size].reshape(total, self.batch_size)
        mine = range(self.ranks.rank, total, self.ranks.world)
        return [Key(self.epoch, batch, batches[batch]) for batch in mine[self.delivered :]]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "delivered": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.delivered = state["epoch"], state["delivered"]


class EvaluationLoader:
    """Every sample once, in order, without augmentation; the last batch may be smaller.

    Of several ranks each has every world-th sample: none is counted twice.

    Args:
        split: What to evaluate on.
        prepare: From pixels to input.
        batch_size: Samples a batch.
        workers: Processes that prepare batches; 0 for none.
        ranks: Which process this is.
    """

    def __init__(
        self,
        split: Split,
        prepare: Pixels,
        *,
        batch_size: int = 256,
        workers: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.samples = _Samples(split, prepare)
        self.batch_size = batch_size
        self.workers = workers
        self.ranks = ranks

    def __len__(self) -> int:
        return -(-len(self._indices()) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        mine = self._indices()
        starts = range(0, len(mine), self.batch_size)
        keys = [Key(0, i, mine[i : i + self.batch_size]) for i in starts]
        return _deliver(self.samples, keys, self.workers)

    def _indices(self) -> NDArray[np.int64]:
        return np.arange(self.ranks.rank, len(self.samples), self.ranks.world)


class Key(NamedTuple):
    """Names a batch.

    Args:
        epoch: From 0.
        batch: Which of the epoch, over all ranks.
        samples: Which of the split.
    """

    epoch: int
    batch: int
    samples: NDArray[np.int64]


class _Samples(Dataset[Batch]):
    """Prepares whole batches by their keys."""

    def __init__(self, split: Split, prepare: Pixels | Augmentation) -> None:
        self.split = split
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, keys: list[Key]) -> Batch:
        (key,) = keys
        chosen = torch.from_numpy(key.samples)
        pixels, labels = self.split.images[chosen], self.split.labels[chosen]
        if isinstance(self.prepare, Pixels):
            return self.prepare(pixels), labels
        return self.prepare(pixels, labels, epoch=key.epoch, samples=key.samples, batch=key.batch)


def _deliver(samples: _Samples, keys: list[Key], workers: int) -> Iterator[Batch]:
    loader: Any = DataLoader(
        samples,
        batch_sampler=[[key] for key in keys],
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_own_group,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own, so that the global one is never touched
    )
    return iter(loader)


def _own_group(_worker: int) -> None:
    """Signals for the whole group, such as Ctrl-C, are for the training process to answer."""
    if os.name == "posix":
        os.setpgrp()


def _as_it_is(batch: Any) -> Any:
    return batch
