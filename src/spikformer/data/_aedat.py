"""AEDAT 2.0 of a DVS128 and AEDAT 3.1: the containers of CIFAR10-DVS and of DVS128 Gesture.

Packets are laid out as in libcaer's `events/common.h` and `events/polarity.h`, addresses as in
jAER's `DVS128`.
"""

import os
import struct
from collections.abc import Iterator
from io import BufferedReader

import numpy as np
from numpy import ndarray

from spikformer.data._event_files import CHUNK, Fields, FormatError, read_at_most, read_records

LONGEST_LINE = 1 << 16
"""Of a header, in bytes."""

NO_DVS128 = 0xFFFF0000
"""AEDAT 2.0: bits that no address of a DVS128 has."""
SPECIAL = 0x8000
"""AEDAT 2.0: marks what is no change of brightness, such as a pulse on the camera's input."""
WRAP = 1 << 32
"""AEDAT 2.0: microseconds until the clock begins anew."""
LONGEST_PAUSE = WRAP // 4
"""Microseconds, 18 minutes: no camera is silent for so long."""

END = b"#!END-HEADER"
PACKET = struct.Struct("<hhiiiiii")
"""AEDAT 3.1: type, source, size of an event, place of its time, overflows of the 31-bit clock,
events there is room for, events there are, valid ones."""
POLARITY = 1
POLARITY_EVENT = np.dtype([("data", "<u4"), ("time", "<i4")])
"""Bit 0 of the data: valid; 1: polarity; 2-16: row; 17-31: column."""


def read_aedat2(file: BufferedReader) -> Iterator[Fields]:
    """Pairs of address and time, 32 bits each with the highest byte first."""
    while file.peek(1)[:1] == b"#":  # an address begins with 0
        _line(file)
    last, wraps = None, 0
    for offset, rows in read_records(file, 8):
        address, clock = rows.view(">u4").T
        t = clock.astype(np.int64)
        # Modulo the clock's range every step is a short one, ahead or a little back.
        step = np.diff(t, prepend=t[0] if last is None else last)
        anew = step <= LONGEST_PAUSE - WRAP
        jumps = (np.abs(step) > LONGEST_PAUSE) & ~anew
        wrong = np.flatnonzero((address & NO_DVS128 != 0) | jumps)
        good = slice(wrong[0] if len(wrong) else len(rows))
        last = int(t[-1])
        t = t[good] + (wraps + np.cumsum(anew[good])) * WRAP
        wraps += int(anew[good].sum())
        pixel = address[good].astype(np.uint16)
        seen = pixel & SPECIAL == 0
        pixel = pixel[seen]
        p = (pixel & 1).astype(np.uint8)
        yield Fields(t[seen], pixel >> 1 & 0x7F, pixel >> 8 & 0x7F, p)
        if len(wrong):
            place, first = offset + 8 * int(wrong[0]), address[wrong[0]]
            if jumps[wrong[0]]:
                raise FormatError(place + 4, f"time jumps by {int(step[wrong[0]]) / 1e6:.0f} s")
            raise FormatError(place, f"{first:#x} is no address of a DVS128")


def read_aedat3(file: BufferedReader, valid_only: bool = False) -> Iterator[Fields]:
    """The polarity events of all packets; packets of other types are passed over."""
    begins = file.tell()
    while not (line := _line(file)).startswith(END):
        if not line.startswith(b"#"):
            raise FormatError(begins, "the header has no end")
        begins = file.tell()
    batch: list[tuple[ndarray, int]] = []
    held = 0
    damage = None
    try:
        for events, overflows in _packets(file):
            batch.append((events, overflows))
            held += len(events)
            if held >= CHUNK:
                yield _decoded(batch, valid_only)
                batch, held = [], 0
    except FormatError as error:
        damage = error
    if batch:
        yield _decoded(batch, valid_only)
    if damage is not None:
        raise damage


def _line(file: BufferedReader) -> bytes:
    begins = file.tell()
    line = file.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise FormatError(begins, "a line of the header does not end")
    return line


def _packets(file: BufferedReader) -> Iterator[tuple[ndarray, int]]:
    """Polarity events, and how often their clock had overflown."""
    end = os.fstat(file.fileno()).st_size
    counted = None
    while head := file.read(PACKET.size):
        begins = file.tell() - len(head)
        if len(head) < PACKET.size:
            raise FormatError(begins, f"{len(head)} of a packet header's {PACKET.size} bytes")
        kind, _, size, place, overflows, room, number, valid = PACKET.unpack(head)
        sound = kind >= 0 and size > 0 and overflows >= 0 and 0 <= valid <= number <= room
        if not sound or (kind == POLARITY and (size, place) != (POLARITY_EVENT.itemsize, 4)):
            raise FormatError(begins, "this is not the header of a packet")
        if kind == POLARITY:
            if counted is not None and overflows - counted not in (0, 1):
                raise FormatError(begins, f"the clock's overflows go from {counted} to {overflows}")
            counted = overflows
            for events in _polarity_events(file, number):
                yield events, overflows
        if begins + PACKET.size + room * size > end:
            raise FormatError(end, f"the file ends within a packet of {room} events")
        file.seek(begins + PACKET.size + room * size)


def _polarity_events(file: BufferedReader, number: int) -> Iterator[ndarray]:
    size = POLARITY_EVENT.itemsize
    while number > 0:
        begins = file.tell()
        block = read_at_most(file, min(number, CHUNK) * size)
        events = np.frombuffer(block, POLARITY_EVENT, len(block) // size)
        backward = np.flatnonzero(events["time"] < 0)
        if len(backward):
            yield events[: backward[0]]
            raise FormatError(begins + size * int(backward[0]), "an event's time is negative")
        yield events
        if len(block) < min(number, CHUNK) * size:
            raise FormatError(begins + len(events) * size, "the file ends within a packet")
        number -= len(events)


def _decoded(batch: list[tuple[ndarray, int]], valid_only: bool) -> Fields:
    events = np.concatenate([events for events, _ in batch])
    overflows = np.repeat([n for _, n in batch], [len(events) for events, _ in batch])
    if valid_only:
        valid = events["data"] & 1 == 1
        events, overflows = events[valid], overflows[valid]
    data = events["data"]
    t = events["time"].astype(np.int64) + (overflows.astype(np.int64) << 31)
    x, y = (data >> 17).astype(np.uint16), (data >> 2 & 0x7FFF).astype(np.uint16)
    return Fields(t, x, y, (data >> 1 & 1).astype(np.uint8))
