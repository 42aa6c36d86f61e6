"""How numbers look on a page."""

from collections.abc import Callable, Mapping
from typing import Any

NOTHING = "\N{EN DASH}"
"""What was not measured."""


def percent(share: float | None) -> str:
    """A share with two decimals, as the field prints accuracies."""
    return NOTHING if share is None else f"{100 * share:.2f} %"


def rate(spikes: float) -> str:
    return f"{spikes:.3f}"


def count(number: float) -> str:
    """A number of things, with a mark at the thousands."""
    return f"{number:,.0f}"


def significant(number: float | None) -> str:
    """Four significant digits, never in powers of ten for what a reader compares."""
    if number is None:
        return NOTHING
    if number == 0 or 1e-4 <= abs(number) < 1e7:
        return f"{number:,.4g}" if abs(number) < 9999.5 else f"{number:,.0f}"
    return f"{number:.3e}"


def duration(hours: float) -> str:
    """In the unit that a reader would use."""
    for unit, length in (("h", 1.0), ("min", 1 / 60)):
        if hours >= length:
            return f"{hours / length:.3g} {unit}"
    return f"{hours * 3600:.2g} s"


def setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(setting(each) for each in value)
    return "none" if value is None else str(value)


FILTERS: Mapping[str, Callable[..., str]] = {
    "percent": percent,
    "rate": rate,
    "count": count,
    "significant": significant,
    "duration": duration,
    "setting": setting,
}
