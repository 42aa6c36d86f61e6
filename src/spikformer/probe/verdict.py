"""What a check found, in plain words."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from spikformer.probe.trace import Break

TOLERANCE = 1e-9
"""What float64 sums may differ by when another shape adds them in another order; a spike is 1."""


class Status(StrEnum):
    """Only `FAILED` is a failure."""

    PASSED = "passed"
    FAILED = "failed"
    NOTICE = "notice"
    UNKNOWN = "cannot be checked"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Args:
        check: What was checked.
        status: How it ended.
        words: What that means for this network.
        layer: The first layer in which it breaks.
        difference_layer_units: By how much, in the unit of that layer's output.
    """

    check: str
    status: Status
    words: str
    layer: str | None = None
    difference_layer_units: float | None = None

    @property
    def failed(self) -> bool:
        return self.status is Status.FAILED

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        gap = self.difference_layer_units
        if gap is not None and not math.isfinite(gap):  # JSON has no word for it
            values["difference_layer_units"] = None
        return values


def broken(check: str, words: str, found: Break, status: Status = Status.FAILED) -> Verdict:
    """The verdict on a network that breaks in a layer."""
    return Verdict(check, status, words, found.layer, found.difference)
