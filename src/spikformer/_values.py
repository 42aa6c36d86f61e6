"""What a field takes: types of numbers that say their range, and the test of a value by its type."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin


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

PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda x: isinstance(x, bool)),
    int: ("a whole number", lambda x: isinstance(x, int) and not isinstance(x, bool)),
    float: (
        "a finite number",
        lambda x: isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x),
    ),
    str: ("text", lambda x: isinstance(x, str)),
    Path: ("a pathlib.Path", lambda x: isinstance(x, Path)),
}


def refusal(value: Any, hint: Any) -> str | None:
    """What a value of this type must be, if the value is not: `at least 1`.

    Args:
        value: Any.
        hint: A plain type, one of the numbers above, a `Literal`, or one of these beside None.
    """
    if get_origin(hint) is Literal:
        names = get_args(hint)
        return None if value in names else "one of " + ", ".join(names)
    if get_origin(hint) is Annotated:
        plain, allowed = get_args(hint)
        if (words := refusal(value, plain)) is not None:
            return words
        return None if allowed.holds(value) else allowed.words
    if NoneType in get_args(hint):
        one = next(kind for kind in get_args(hint) if kind is not NoneType)
        return None if value is None else refusal(value, one)
    words, holds = PLAIN[hint]
    return None if holds(value) else words
