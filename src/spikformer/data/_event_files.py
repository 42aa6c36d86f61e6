"""What readers of event files share, and the two plainest formats."""

import os
import zipfile
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import NamedTuple

import numpy as np
from numpy import ndarray

CHUNK = 1 << 20
"""Events that are read at a time."""
NMNIST_EVENT = 5
"""Bytes."""
NMNIST_OVERFLOW = 240
"""The row that no sensor has: time goes on by `NMNIST_STEP` from here."""
NMNIST_STEP = 1 << 13
MOST_COMPRESSED = 64
"""Times that the content of an archive may be larger than its file: no events are so alike."""
NPZ_FIELDS = (
    ("t", np.int64, 2**63 - 1),
    ("x", np.uint16, 2**16 - 1),
    ("y", np.uint16, 2**16 - 1),
    ("p", np.uint8, 1),
)
"""Each with what it is read as, and its highest value."""


class Fields(NamedTuple):
    """Times, columns, rows and polarities of some events."""

    t: ndarray
    x: ndarray
    y: ndarray
    p: ndarray


class FormatError(Exception):
    """A file breaks its format.

    Args:
        offset: The first byte that is wrong.
        reason: What is.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def read_records(file: BufferedReader, size: int) -> Iterator[tuple[int, ndarray]]:
    """The rest of a file as rows of `size` bytes, and where in the file they begin.

    Raises:
        FormatError: after the last whole row, when there is a part of one.
    """
    offset = file.tell()
    while block := read_at_most(file, CHUNK * size):
        whole = len(block) // size * size
        if whole:
            yield offset, np.frombuffer(block, np.uint8, whole).reshape(-1, size)
        if whole < len(block):
            raise FormatError(offset + whole, f"{len(block) - whole} of an event's {size} bytes")
        offset += whole


def read_at_most(file: BufferedReader, count: int) -> bytes:
    """Up to `count` bytes, without room for more than the file has."""
    return file.read(min(count, os.fstat(file.fileno()).st_size - file.tell()))


def read_nmnist(file: BufferedReader) -> Iterator[Fields]:
    """N-MNIST's `.bin`: column, row, polarity and 23 bits of time, in five bytes.

    Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using
    saccades", 2015; the overflow marker is that of its authors' own reader.
    """
    elapsed = 0
    for _, rows in read_records(file, NMNIST_EVENT):
        high, middle, low = (rows[:, i].astype(np.int64) for i in (2, 3, 4))
        t = ((high & 0x7F) << 16) | (middle << 8) | low
        overflows = rows[:, 1] == NMNIST_OVERFLOW
        if elapsed or overflows.any():
            t += elapsed + np.cumsum(overflows) * NMNIST_STEP
            elapsed += int(overflows.sum()) * NMNIST_STEP
        events = np.flatnonzero(~overflows) if overflows.any() else slice(None)
        x, y, p = rows[events, 0], rows[events, 1], rows[events, 2] >> 7
        yield Fields(t[events], x.astype(np.uint16), y.astype(np.uint16), p)


def read_npz(file: BufferedReader) -> Iterator[Fields]:
    """NumPy's archive of the arrays t, x, y and p, as SpikingJelly writes it."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = os.fstat(file.fileno()).st_size
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MOST_COMPRESSED * size + CHUNK:
                raise FormatError(0, f"{size} bytes that would unpack to {unpacked}")
            fields = [_array(archive, size, *field) for field in NPZ_FIELDS]
    except FormatError:
        raise
    except Exception as error:  # damaged archives raise whatever their parts do
        raise FormatError(0, f"a damaged archive ({error})") from error
    if len({len(field) for field in fields}) > 1:
        raise FormatError(0, f"t, x, y, p have {[len(field) for field in fields]} events")
    yield Fields(*fields)


def _array(archive: zipfile.ZipFile, size: int, name: str, dtype: type, highest: int) -> ndarray:
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        raise FormatError(0, f"an archive without {name}") from error
    offset = member.header_offset
    plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if not plain or offset + member.compress_size > size:  # or a reader would make room for it
        raise FormatError(0, f"the entry of {name} in the archive is damaged")
    content = archive.read(member)
    try:
        array = _npy(content)
    except Exception as error:  # damaged headers are parsed as Python, and raise what Python does
        raise FormatError(offset, f"{name} is no array ({error})") from error
    if array.ndim != 1 or array.dtype.kind not in "bui":
        raise FormatError(offset, f"{name} is {array.dtype} {list(array.shape)}, not integers [N]")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= highest:
        raise FormatError(offset, f"{name} is {array.min()} to {array.max()}, not 0 to {highest}")
    return array.astype(dtype)


def _npy(content: bytes) -> ndarray:
    """An array, as large as its bytes are whatever its header says."""
    stream = BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = read[version](stream)
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
