"""Batches: the same ones on every machine, from wherever one left off."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spikformer.data._dataset import Split
from spikformer.data.augment import AFFINE_NUMBERS, random_affine
from spikformer.data.randomness import permutation, uniforms
from spikformer.errors import ConfigError

Batch = tuple[Float[Tensor, "B C H W"], Int64[Tensor, " B"]]
Key = tuple[int, int]
"""(epoch, sample)."""


@dataclass(frozen=True)
class Pixels:
    """From pixels to input: augment in [0, 1], then normalise.

    Args:
        mean: Subtracted, one number a channel.
        std: What the difference is divided by.
        degrees: Largest rotation to either side.
        scale: Largest change in size.
        translate: Largest shift to either side, as a share of the side.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    degrees: float = 0.0
    scale: float = 0.0
    translate: float = 0.0

    def __call__(
        self, pixels: UInt8[Tensor, "B C H W"], numbers: NDArray[np.float64] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """Input for the network.

        Args:
            pixels: 0 to 255.
            numbers: What augmentation draws, [B, AFFINE_NUMBERS] in [0, 1). None: no augmentation.
        """
        images = pixels.float() / 255
        if numbers is not None and (self.degrees or self.scale or self.translate):
            images = random_affine(
                images,
                torch.from_numpy(numbers).float(),
                degrees=self.degrees,
                scale=self.scale,
                translate=self.translate,
            )
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        return (images - mean) / std


class TrainingLoader:
    """Shuffled, augmented batches, whose place is (epoch, batches delivered) and nothing else.

    Order and augmentation are functions of (seed, epoch, sample). So a loader that was told its
    place goes on exactly as the one that was interrupted there, with any number of workers. Each
    iteration goes on where the last one stopped; after a full one it starts the next epoch.

    Args:
        split: What to train on.
        prepare: From pixels to input.
        batch_size: Samples a batch; a smaller rest is left out.
        seed: Decides order and augmentation.
        workers: Processes that prepare batches; 0 for none.

    Raises:
        ConfigError: when the split does not fill one batch.
    """

    def __init__(
        self, split: Split, prepare: Pixels, *, batch_size: int, seed: int, workers: int = 0
    ) -> None:
        if batch_size > len(split):
            raise ConfigError(
                f"batch_size must be at most the {len(split)} training samples, got {batch_size}"
            )
        self.samples = _Samples(split, prepare, seed)
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.epoch = 0
        self.delivered = 0

    def __len__(self) -> int:
        return len(self.samples) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        if self.delivered >= len(self):
            self.epoch, self.delivered = self.epoch + 1, 0
        order = permutation(self.seed, self.epoch, len(self.samples))
        used = order[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
        keys = [[(self.epoch, int(i)) for i in batch] for batch in used[self.delivered :]]
        for batch in _deliver(self.samples, keys, self.workers):
            self.delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "delivered": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.delivered = state["epoch"], state["delivered"]


class EvaluationLoader:
    """Every sample once, in order, without augmentation; the last batch may be smaller."""

    def __init__(
        self, split: Split, prepare: Pixels, *, batch_size: int = 256, workers: int = 0
    ) -> None:
        self.samples = _Samples(split, prepare, seed=None)
        self.batch_size = batch_size
        self.workers = workers

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        indices = range(len(self.samples))
        keys = [
            [(0, i) for i in indices[start : start + self.batch_size]]
            for start in range(0, len(self.samples), self.batch_size)
        ]
        return _deliver(self.samples, keys, self.workers)


class _Samples(Dataset[Batch]):
    """Prepares whole batches of (epoch, sample) keys; without a seed, nothing is augmented."""

    def __init__(self, split: Split, prepare: Pixels, seed: int | None) -> None:
        self.split = split
        self.prepare = prepare
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, keys: list[Key]) -> Batch:
        epoch = keys[0][0]
        indices = np.array([index for _, index in keys])
        numbers = None
        if self.seed is not None:
            numbers = uniforms(self.seed, epoch, indices, AFFINE_NUMBERS)
        chosen = torch.from_numpy(indices)
        return self.prepare(self.split.images[chosen], numbers), self.split.labels[chosen]


def _deliver(samples: _Samples, keys: list[list[Key]], workers: int) -> Iterator[Batch]:
    loader: Any = DataLoader(
        samples,
        batch_sampler=keys,
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=torch.Generator(),  # its own, so that the global one is never touched
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch
