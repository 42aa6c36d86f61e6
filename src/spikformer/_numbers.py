"""Types of numbers that say which values they take."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, get_args, get_type_hints


@dataclass(frozen=True)
class Range:
    """Which numbers a field takes: in words, and as a test."""

    words: str
    holds: Callable[[float], bool]


NOT_NEGATIVE = Range("0 or more", lambda x: x >= 0)

Count = Annotated[int, Range("at least 1", lambda x: x >= 1)]
Natural = Annotated[int, NOT_NEGATIVE]
NotNegative = Annotated[float, NOT_NEGATIVE]
Positive = Annotated[float, Range("positive", lambda x: x > 0)]
Share = Annotated[float, Range("in [0, 1]", lambda x: 0 <= x <= 1)]
BelowOne = Annotated[float, Range("in [0, 1)", lambda x: 0 <= x < 1)]
UpToTen = Annotated[float, Range("in [0, 10]", lambda x: 0 <= x <= 10)]
Seed = Annotated[int, Range("in [0, 2^63)", lambda x: 0 <= x < 2**63)]


def ranges(part: type) -> Iterator[tuple[str, Range]]:
    """The fields of a class whose type is one of these, bare or beside None."""
    for name, hint in get_type_hints(part, include_extras=True).items():
        for one in (hint, *get_args(hint)):
            for note in getattr(one, "__metadata__", ()):
                if isinstance(note, Range):
                    yield name, note
