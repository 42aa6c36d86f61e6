"""From pixels to what a network takes, and what is done to them on the way in training."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from spikformer.data.augment import (
    AFFINE_NUMBERS,
    ERASING_NUMBERS,
    cutmix,
    mixup,
    random_affine,
    random_erasing,
)
from spikformer.data.event_augment import EVENT_NUMBERS, event_augment
from spikformer.data.rand_augment import RAND_NUMBERS, rand_augment
from spikformer.data.randomness import batch_generator, uniforms
from spikformer.data.timm_augment import timm_rand_augment
from spikformer.recipe import Augment

Raw = UInt8[Tensor, "B C H W"] | Float[Tensor, "B *T C H W"]
"""Pixels from 0 to 255, or counts of events."""
Images = Float[Tensor, "B *T C H2 W2"]
Targets = Int64[Tensor, " B"] | Float[Tensor, "B K"]
"""Labels; or the share of every class, where images are mixed."""
NUMBERS = (AFFINE_NUMBERS, 1, RAND_NUMBERS, ERASING_NUMBERS, EVENT_NUMBERS)
"""What is drawn for each sample: for the affine map, the flip, RandAugment, erasing, events."""

BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1: rounding must not carry a drawn number to 1."""


@dataclass(frozen=True)
class Pixels:
    """Normalises pixels, after bringing them to size.

    Args:
        mean: Subtracted from pixels in [0, 1], one number a channel.
        std: What the difference is divided by.
        side: Of the square that images are brought to, bicubically; counts of events are framed by
            zeros, or cut off. None leaves them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int | None = None

    def __call__(self, pixels: Raw) -> Images:
        return self.normalise(unit(self.sized(pixels)))

    def sized(self, pixels: Raw) -> Tensor:
        if self.side is None or pixels.shape[-2:] == (self.side, self.side):
            return pixels
        if pixels.dtype == torch.uint8:
            return F.interpolate(pixels, (self.side, self.side), mode="bicubic", antialias=True)
        height, width = (self.side - length for length in pixels.shape[-2:])
        return F.pad(pixels, (width // 2, width - width // 2, height // 2, height - height // 2))

    def normalise(self, images: Images) -> Images:
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        return (images - mean) / std


def unit(pixels: Tensor) -> Tensor:
    """Pixels from 0 to 1; counts of events as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


@dataclass(frozen=True)
class Augmentation:
    """Augments batches; every number it draws is a function of (seed, epoch, sample or batch).

    Args:
        pixels: What is done without augmentation.
        settings: What is done besides, and how strongly.
        classes: Their number K.
        seed: Decides what is drawn.
    """

    pixels: Pixels
    settings: Augment
    classes: int
    seed: int

    @property
    def mixes(self) -> bool:
        return self.settings.mixup > 0 or self.settings.cutmix > 0

    def __call__(
        self,
        pixels: Raw,
        labels: Int64[Tensor, " B"],
        *,
        epoch: int,
        samples: Int64[np.ndarray, " B"],
        batch: int,
    ) -> tuple[Images, Targets]:
        """Input and targets.

        Args:
            pixels: As they are stored.
            labels: Of each image.
            epoch: From 0.
            samples: Which these are in their split.
            batch: Which batch of the epoch, over all ranks.
        """
        drawn = torch.from_numpy(uniforms(self.seed, epoch, samples, sum(NUMBERS)))
        drawn = drawn.float().clamp(max=BELOW_ONE)
        affine, flip, rand, erasing, event = drawn.split(NUMBERS, dim=1)
        images = self._moved(self.pixels.sized(pixels), affine, flip[:, 0], rand, event)
        targets: Targets = labels
        if self.mixes:
            one_hot = F.one_hot(labels, self.classes).float()
            images, targets = self._mixed(images, one_hot, epoch, batch)
        if self.settings.erasing:
            images = random_erasing(images, erasing, self.settings.erasing)
        return images, targets

    def _moved(
        self, pixels: Tensor, affine: Tensor, flip: Tensor, rand: Tensor, event: Tensor
    ) -> Tensor:
        settings = self.settings
        if settings.flip:
            mirrored = (flip < settings.flip).view(-1, *[1] * (pixels.dim() - 1))
            pixels = torch.where(mirrored, pixels.flip(-1), pixels)
        if settings.event_operation:
            pixels = event_augment(pixels, event)
        if settings.rand_augment:
            numbers, augment = rand, rand_augment
            if settings.rand_operations == "all":
                numbers, augment = rand[:, 0], timm_rand_augment
            pixels = augment(
                pixels,
                numbers,
                magnitude=settings.rand_magnitude,
                deviation=settings.rand_deviation,
                fill=tuple(round(255 * mean) for mean in self.pixels.mean),
            )
        images = self.pixels.normalise(unit(pixels))
        if settings.degrees or settings.scale or settings.translate:
            images = random_affine(
                images,
                affine,
                degrees=settings.degrees,
                scale=settings.scale,
                translate=settings.translate,
            )
        return images

    def _mixed(
        self, images: Tensor, targets: Tensor, epoch: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        settings = self.settings
        if settings.mixing_epochs is not None and epoch >= settings.mixing_epochs:
            return images, targets
        draw = batch_generator(self.seed, epoch, batch)
        if settings.mixing_share < 1 and draw.random() >= settings.mixing_share:
            return images, targets
        cuts = settings.cutmix > 0 and (settings.mixup == 0 or draw.random() < 0.5)
        strength = settings.cutmix if cuts else settings.mixup
        share = float(draw.beta(strength, strength))
        if cuts:
            return cutmix(images, targets, share, (draw.random(), draw.random()))
        return mixup(images, targets, share)
