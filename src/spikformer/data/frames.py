"""From events to frames: how many changes of each polarity every pixel saw in each slice of time."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int32, Int64
from numpy import ndarray

from spikformer.data.events import Events
from spikformer.errors import ConfigError, DataError

POLARITIES = 2
LARGEST = 1 << 33
"""Bytes of the frames of a recording."""
PIECE = 1 << 17
"""Events that are counted at a time: so many places stay in a core's cache."""


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """How a recording is cut into consecutive frames: `number` of them, or one `every` so much.

    With a `number` M, by count, each frame has N // M events, and by time it lasts (t_last - t_0) // M;
    the last frame also has what is left over. This is how the authors' data path cuts (`split_by` of
    SpikingJelly's `integrate_events_by_fixed_frames_number`). With `every`, frames follow each other
    without gaps from the first event on (SpikingJelly begins each at an event); the last one may have
    fewer events, or be shorter.

    Args:
        by: `count` of events, or `time`.
        number: Of frames.
        every: Events, or microseconds, of a frame.

    Raises:
        ConfigError: unless exactly one of `number` and `every` is given, and at least 1.
    """

    by: str
    number: int | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        if self.by not in ("count", "time"):
            raise ConfigError(f"by must be 'count' or 'time', got {self.by!r}")
        if (self.number is None) == (self.every is None):
            raise ConfigError(
                f"one of number and every must be given, got {self.number} and {self.every}"
            )
        given = self.every if self.number is None else self.number
        if given is None or given < 1:
            raise ConfigError(f"number and every must be at least 1, got {given}")

    def frames_of(self, t: Int64[ndarray, " N"]) -> int:
        """How many frames events at these times make."""
        if self.every is None:
            return self.number or 0
        span = len(t) if self.by == "count" else int(np.ptp(t)) + 1 if len(t) else 0
        return -(-span // self.every)

    def check_room(self, t: Int64[ndarray, " N"], pixels: int) -> None:
        """See that frames of so many counts fit into memory.

        Raises:
            DataError: when they would fill more than `LARGEST`: an event at a wild time can ask so.
        """
        number = self.frames_of(t)
        if 4 * pixels * number > LARGEST:
            raise DataError(f"{number} frames would fill {4 * pixels * number / 2**30:.0f} GiB")

    def bounds(self, t: Int64[ndarray, " N"]) -> Int64[ndarray, " bounds"]:
        """Where frames begin among events in order of time, and where the last one ends."""
        place = np.arange(len(t)) if self.by == "count" else t
        if self.number is not None:
            span = len(t) if self.by == "count" else int(np.ptp(t)) if len(t) else 0
            starts = np.arange(self.number) * (span // self.number)
        else:
            starts = np.arange(self.frames_of(t)) * (self.every or 1)
        first = place[0] if len(t) else 0
        return np.append(np.searchsorted(place, starts + first), len(t))


def to_frames(events: Events, slicing: Slicing, size: tuple[int, int]) -> Int32[ndarray, "T 2 H W"]:
    """How often each pixel saw each polarity in each frame; a frame without events is zero.

    Args:
        events: In any order, which counts for `by="count"`; for `by="time"` they are sorted.
        slicing: How they are cut.
        size: Height and width of the sensor.

    Raises:
        DataError: when an event lies outside the sensor, or frames would fill more than 8 GiB.
    """
    height, width = size
    if events.x.max(initial=0) >= width or events.y.max(initial=0) >= height:
        n = np.flatnonzero((events.x >= width) | (events.y >= height))[0]
        raise DataError(
            f"event {n} is at column {events.x[n]}, row {events.y[n]}: outside {width} x {height}"
        )
    if slicing.by == "time" and (np.diff(events.t) < 0).any():
        events = events[np.argsort(events.t, kind="stable")]
    pixels = POLARITIES * height * width
    slicing.check_room(events.t, pixels)
    bounds = slicing.bounds(events.t)
    frames = np.zeros((len(bounds) - 1, pixels), np.int32)
    for frame, (begin, end) in zip(frames, pairwise(bounds.tolist()), strict=True):
        for start in range(begin, end, PIECE):
            part = events[start : min(start + PIECE, end)]
            place = (part.p.astype(np.intp) * height + part.y) * width + part.x
            frame += np.bincount(place, minlength=pixels)
    return frames.reshape(-1, POLARITIES, height, width)
