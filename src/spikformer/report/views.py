"""How numbers look on a page."""

from collections.abc import Callable, Mapping
from typing import Any


def percent(share: float | None) -> str:
    """A share with two decimals, as the field prints accuracies."""
    return "–" if share is None else f"{100 * share:.2f} %"


def rate(spikes: float) -> str:
    return f"{spikes:.3f}"


def count(number: float) -> str:
    """A number of things, with a mark at the thousands."""
    return f"{number:,.0f}"


def significant(number: float | None) -> str:
    """Four significant digits, never in powers of ten for what a reader compares."""
    if number is None:
        return "–"
    if number == 0 or 1e-4 <= abs(number) < 1e7:
        return f"{number:,.4g}" if abs(number) < 1e4 else f"{number:,.0f}"
    return f"{number:.3e}"


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
    "setting": setting,
}
