"""An event camera before a picture that moves: recordings from any set of images.

As CIFAR10-DVS was made (Li et al. 2017): the picture goes round a closed loop, smoothly, and a pixel
sends an event whenever its log intensity has changed by a threshold since its last one.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spikformer.data.events import Events
from spikformer.errors import ConfigError

DARKEST = 0.05
"""Added to intensities, or the logarithm of black would be without bounds."""


def events_from_images(
    images: Float[ndarray, "n H W"],
    *,
    threshold: float = 0.25,
    radius: float = 2.0,
    loops: int = 2,
    duration: int = 200_000,
    steps: int = 64,
) -> list[Events]:
    """What a camera of H x W pixels sees of each image; deterministic, without noise.

    All images are filmed at once: about a gigabyte for two hundred of 32 x 32 that are full of edges.

    Args:
        images: Intensities, 0 to 1.
        threshold: Change of log intensity that makes an event.
        radius: Of the circle that the picture goes round, in pixels. What comes in at a border is
            the border.
        loops: How often.
        duration: Of the recording, in microseconds.
        steps: Places that the picture is looked at in a loop; between them intensities are
            straight lines.

    Raises:
        ConfigError: for a number that is not positive, loops or steps that are not whole, intensities
            outside of 0 to 1, or images of another shape.
    """
    if images.ndim != 3:
        raise ConfigError(f"images must be [n, H, W], got {[*images.shape]}")
    numbers = {"threshold": threshold, "radius": radius, "loops": loops, "duration": duration}
    for name, value in {**numbers, "steps": steps}.items():
        if not value > 0:
            raise ConfigError(f"{name} must be positive, got {value}")
    if loops != int(loops) or steps != int(steps):
        raise ConfigError(f"loops and steps must be whole, got {loops} and {steps}")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ConfigError("intensities must be from 0 to 1")
    angles = np.linspace(0, 2 * np.pi * loops, steps * loops + 1)
    margin = int(np.ceil(2 * radius)) + 1
    canvas = np.log(np.pad(images, ((0, 0), (margin, margin), (margin, margin)), "edge") + DARKEST)
    # The circle passes through the middle, where it begins.
    path = radius * np.stack([np.sin(angles), 1 - np.cos(angles)], 1)
    now = reference = _shifted(canvas, path[0], margin)
    pieces = []
    for k, place in enumerate(path[1:]):
        before, now = now, _shifted(canvas, place, margin)
        count = np.trunc((now - reference) / threshold).astype(np.int64)
        pieces.append(_crossings(before, now, reference, count, threshold, k))
        reference = reference + count * threshold
    image, y, x, p, moment = (np.concatenate(each) for each in zip(*pieces, strict=True))
    t = np.rint(moment * (duration / (steps * loops))).astype(np.int64)
    order = np.lexsort((t, image))
    ends = np.searchsorted(image[order], np.arange(len(images) + 1))
    events = Events(
        t=t[order],
        x=x[order].astype(np.uint16),
        y=y[order].astype(np.uint16),
        p=p[order].astype(np.uint8),
    )
    return [events[a:b] for a, b in pairwise(ends)]


def _shifted(canvas: ndarray, place: ndarray, margin: int) -> ndarray:
    """What lies `place` (x, y) from the middle, between pixels bilinearly."""
    whole = np.floor(place).astype(int)
    right, down = place - whole
    height, width = (side - 2 * margin for side in canvas.shape[1:])
    x, y = whole + margin

    def window(dy: int, dx: int) -> ndarray:
        return canvas[:, y + dy : y + dy + height, x + dx : x + dx + width]

    above = (1 - right) * window(0, 0) + right * window(0, 1)
    below = (1 - right) * window(1, 0) + right * window(1, 1)
    return (1 - down) * above + down * below


def _crossings(
    before: ndarray,
    now: ndarray,
    reference: ndarray,
    count: ndarray,
    threshold: float,
    step: int,
) -> tuple[ndarray, ...]:
    """Image, row, column and polarity of each event of a step, and when it is, in steps."""
    image, y, x = np.nonzero(count)
    repeats = np.abs(count[image, y, x])
    image, y, x = (np.repeat(index, repeats) for index in (image, y, x))
    ends = np.cumsum(repeats)
    which = np.arange(len(x)) - np.repeat(ends - repeats, repeats) + 1
    sign = np.sign(count[image, y, x])
    level = reference[image, y, x] + sign * which * threshold
    start, end = before[image, y, x], now[image, y, x]
    return image, y, x, sign > 0, step + np.clip((level - start) / (end - start), 0, 1)
