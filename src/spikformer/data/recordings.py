"""Frames of many recordings, made when they are first asked for and then kept on disk."""

import hashlib
import json
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from spikformer._files import replacing
from spikformer.data.events import Events, read_events
from spikformer.data.frames import POLARITIES, Slicing, to_frames
from spikformer.errors import ConfigError, DataError

VERSION = 1
"""Of the frames that are kept: raise it when the same events give others."""


@dataclass(frozen=True)
class Recording:
    """A file of events.

    Args:
        path: The file.
        clips: Start and end, in microseconds, of what is cut from it. None: all of it, once.
    """

    path: Path
    clips: tuple[tuple[int, int], ...] | None = None

    @property
    def count(self) -> int:
        """How many clips that is."""
        return 1 if self.clips is None else len(self.clips)


@dataclass(frozen=True)
class Reading:
    """How events become frames: all that shapes them beside the file.

    Args:
        slicing: How a clip is cut; with a `number`, since batches want one length.
        size: Height and width of the sensor.
        turn: What is done to the events of a file; its name is part of the cache's key.

    Raises:
        ConfigError: when clips would differ in length, or `turn` has no name.
    """

    slicing: Slicing
    size: tuple[int, int]
    turn: Callable[[Events], Events] | None = None

    def __post_init__(self) -> None:
        if self.slicing.number is None:
            raise ConfigError("batches want the same number of frames of every recording")
        if self.turn is not None and "<" in getattr(self.turn, "__qualname__", "<"):
            raise ConfigError(
                "turn must be a function with a name of its own: frames are kept by it"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """T, 2, H, W."""
        return self.slicing.number or 0, POLARITIES, *self.size

    @property
    def key(self) -> dict[str, object]:
        turned = None if self.turn is None else f"{self.turn.__module__}.{self.turn.__qualname__}"
        return {
            "version": VERSION,
            "slicing": asdict(self.slicing),
            "size": self.size,
            "turn": turned,
        }

    def __call__(self, recording: Recording) -> ndarray:
        """[clips, T, 2, H, W], in the smallest type that holds the counts.

        Raises:
            DataError: when the file is missing or damaged.
        """
        events = read_events(recording.path)
        if self.turn is not None:
            events = self.turn(events)
        clips = (
            [events] if recording.clips is None else [events.between(*c) for c in recording.clips]
        )
        try:
            frames = np.stack([to_frames(clip, self.slicing, self.size) for clip in clips])
        except DataError as error:
            raise DataError(f"{recording.path}: {error}") from error
        return frames.astype(np.min_scalar_type(frames.max()))


class Recordings:
    """Frames [n, T, 2, H, W] of n clips, indexed as a tensor is.

    Any number of processes may share a cache. What is damaged in it is made again.

    Args:
        recordings: Files, and what is cut from them.
        read: From a recording to its frames.
        cache: Folder to keep frames in. None keeps none.
    """

    def __init__(
        self, recordings: Sequence[Recording], read: Reading, cache: Path | None = None
    ) -> None:
        self.recordings = recordings
        self.read = read
        self.cache = None if cache is None else _FrameCache(cache, read)
        self.samples = np.array(
            [(number, clip) for number, r in enumerate(recordings) for clip in range(r.count)]
        ).reshape(-1, 2)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.samples), *self.read.shape

    def part(self, indices: ndarray) -> "Recordings":
        """Some of the clips."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__, samples=self.samples[indices])
        return part

    def __getitem__(self, chosen: Tensor) -> Float32[Tensor, "*B T 2 H W"]:
        frames = np.empty((chosen.numel(), *self.read.shape), np.float32)
        for place, (number, clip) in zip(
            frames, self.samples[chosen.reshape(-1).numpy()].tolist(), strict=True
        ):
            place[:] = self._frames(self.recordings[number], clip)
        return torch.from_numpy(frames).reshape(*chosen.shape, *self.read.shape)

    def _frames(self, recording: Recording, clip: int) -> ndarray:
        if self.cache is None:
            return self.read(recording)[clip]
        path = self.cache.path(recording)  # before it is read: later it may be another file
        kept = self.cache.get(path, clip)
        if kept is None:
            frames = self.read(recording)
            self.cache.put(path, frames)
            kept = frames[clip]
        return kept


class _FrameCache:
    """A file for each recording: its frames as `.npy`, then a CRC-32 of every clip and its type."""

    def __init__(self, root: Path, read: Reading) -> None:
        key = json.dumps(read.key)
        self.folder = root / hashlib.sha256(key.encode()).hexdigest()[:16]
        self.key = key
        self.shape = read.shape

    def get(self, path: Path, clip: int) -> ndarray | None:
        """A clip's frames, or None where they are not kept whole."""
        try:
            kept = np.lib.format.open_memmap(path, mode="r")
            with path.open("rb") as file:
                file.seek(-4 * len(kept), 2)
                sums = np.frombuffer(file.read(), "<u4")
            frames = np.array(kept[clip])
        except (OSError, ValueError, IndexError, EOFError):
            return None
        whole = frames.shape == self.shape and _checksum(frames) == sums[clip]
        return frames if whole else None

    def put(self, path: Path, frames: ndarray) -> None:
        sums = np.array([_checksum(clip) for clip in np.ascontiguousarray(frames)], "<u4")
        try:
            with replacing(path, flush=False) as partial, partial.open("wb") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(frames))
                file.write(sums.tobytes())
        except OSError as error:
            warnings.warn(f"frames are not kept: {error}", stacklevel=2)

    def path(self, recording: Recording) -> Path:
        """Where a recording's frames lie; other ones, as soon as the file changes."""
        state = recording.path.stat()
        changed = state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
        named = (str(recording.path.resolve()), *changed, recording.clips)
        digest = hashlib.sha256(repr(named).encode()).hexdigest()
        return self.folder / digest[:2] / f"{recording.path.stem}-{digest[2:18]}.npy"


def _checksum(clip: ndarray) -> int:
    return zlib.crc32(clip.data, zlib.crc32(f"{clip.dtype.str}{clip.shape}".encode()))
