"""Recordings of event cameras: one type for all, and one door to every file format.

A file is read in pieces, so its size does not matter; what a damaged file still says for certain
can be had, and nothing else.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, UInt8, UInt16
from numpy import ndarray

from spikformer._files import must_exist
from spikformer.data._aedat import read_aedat2, read_aedat3
from spikformer.data._event_files import Fields, FormatError, read_nmnist, read_npz
from spikformer.errors import ConfigError, DataError, unknown_name

OnError = Literal["raise", "truncate"]
Reader = Callable[[BufferedReader], Iterator[Fields]]
READERS: Mapping[str, Reader] = {
    "aedat2": read_aedat2,
    "aedat3": read_aedat3,
    "nmnist": read_nmnist,
    "npz": read_npz,
}
SIGNATURES = {b"#!AER-DAT2.0": "aedat2", b"#!AER-DAT3.1": "aedat3", b"PK\x03\x04": "npz"}
"""How files begin."""
SUFFIXES = {".bin": "nmnist", ".bs2": "nmnist"}
"""Of files that begin with an event."""


class EventFileError(DataError):
    """A file of events is truncated or damaged.

    Args:
        path: The file.
        offset: The first byte that is not as it must be.
        reason: What is wrong there.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path}, byte {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Events:
    """N changes of brightness, in the order of their file.

    Args:
        t: Time in microseconds.
        x: Column.
        y: Row.
        p: Polarity, 0 or 1.
    """

    t: Int64[ndarray, " N"]
    x: UInt16[ndarray, " N"]
    y: UInt16[ndarray, " N"]
    p: UInt8[ndarray, " N"]

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, chosen: "slice | ndarray") -> "Events":
        """Some of the events: a view, for a slice."""
        return type(self)(self.t[chosen], self.x[chosen], self.y[chosen], self.p[chosen])

    def between(self, start: int, end: int) -> "Events":
        """The events of `start <= t < end`, microseconds."""
        return self[(self.t >= start) & (self.t < end)]


def read_events(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    on_error: OnError = "raise",
    valid_only: bool = False,
) -> Events:
    """All events of a file, as it says them: coordinates are neither turned nor flipped.

    Args:
        path: The file.
        format: `aedat2`, `aedat3`, `nmnist` or `npz`. None tells it by how the file begins, and
            by its name where that says nothing.
        on_error: `raise`, or `truncate`: warn, and return the events before what is damaged.
        valid_only: Leave out events that are marked invalid, which only `aedat3` knows (off: the
            published data sets mark none that count, and some mark all).

    Raises:
        EventFileError: for what is truncated or damaged, with the byte where it begins.
        DataError: when there is no such file, or its format is not known.
        ConfigError: for a format that does not exist, or an option that it has not.
    """
    pieces = list(stream_events(path, format, on_error=on_error, valid_only=valid_only))
    fields = ("t", "x", "y", "p")
    return Events(*(np.concatenate([getattr(piece, f) for piece in pieces]) for f in fields))


def stream_events(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    on_error: OnError = "raise",
    valid_only: bool = False,
) -> Iterator[Events]:
    """The events of a file of any size, about a million at a time; see `read_events`.

    An `npz` is read as a whole. There is always a first piece, of no events in a file that has none.
    """
    path = Path(path)
    must_exist(path)
    if on_error not in get_args(OnError):
        raise unknown_name("on_error", on_error, get_args(OnError))
    with path.open("rb") as file:
        format = format or _format(file, path)
        if format not in READERS:
            raise unknown_name("event format", format, READERS)
        if valid_only and format != "aedat3":
            raise ConfigError(f"{format} marks no events as invalid: valid_only is of aedat3")
        reader = partial(read_aedat3, valid_only=True) if valid_only else READERS[format]
        yield Events(*(np.empty(0, dtype) for dtype in ("i8", "u2", "u2", "u1")))
        try:
            for t, x, y, p in reader(file):
                yield Events(t, x, y, p)
        except FormatError as error:
            damaged = EventFileError(path, error.offset, error.reason)
            if on_error == "raise":
                raise damaged from error
            warnings.warn(f"{damaged}; the events before it are kept", stacklevel=2)


def _format(file: BufferedReader, path: Path) -> str:
    beginning = file.read(12)
    file.seek(0)
    known = SIGNATURES.get(beginning) or SIGNATURES.get(beginning[:4])
    if known is None and beginning.startswith(b"#!AER-DAT"):
        version = beginning[9:].decode("ascii", "replace")
        raise DataError(f"{path} is AEDAT {version}: only 2.0 and 3.1 are read")
    known = known or SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise DataError(f"{path} is in no known format of events: give format={'|'.join(READERS)}")
    return known
