"""What a plan may hold: how much of it the kernels can number and a machine can hold."""

from typing import Any

from spikformer.errors import WeightsError

LARGEST_COUNT = 255
"""Counts are bytes."""
LARGEST_FLOAT = (2 - 2.0**-23) * 2.0**127
LARGEST_SIDE = 2**16
LARGEST_ROW = 2**22
"""Channels of an image's row: offsets of their weights have 32 bits."""
LARGEST_SIZE = 2**28
"""Sum of a value's elements over an image's steps, when all are at their maximum: a gigabyte of
events, whose numbers have 32 bits."""
LARGEST_PLAN = 2**30
"""Elements of all values over an image's steps, in rows of 64: four bytes each at most."""


def check_types(instance: Any) -> None:
    for name, kind in type(instance).__annotations__.items():
        if kind in (int, str, bool, float):
            value = getattr(instance, name)
            # JSON writes 2.0 as such, and Python holds True for an int.
            must(type(value) is kind, f"{name} is {value!r}, no {kind.__name__}")
            # Files of weights and states hold names, and states some of their own after a dot.
            named = kind is not str or (value.isprintable() and value[:1] not in ("", "."))
            must(named, f"{name} is {value!r}, which is no name")


def finite(number: float) -> bool:
    return abs(number) <= LARGEST_FLOAT


def must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WeightsError(otherwise)
