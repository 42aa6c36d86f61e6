"""How fast a network could be if every layer added as fast as the best loop that was measured.

A spike costs an addition for each output it reaches: additions = multiply-accumulates x mean input.
A prototype of nothing but that loop was measured on the same kind of processor (two cores of an AMD
EPYC with AVX-512, two threads; four shapes from 8192x384x384 to 6272x512x2048). The bound of a
network is the time of its additions at the prototype's rates, and what else was measured: neurons,
packing, pools, residuals, attention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PROTOTYPE: Mapping[str, Mapping[float, tuple[float, float]]] = {
    "int8": {0.05: (2550, 3040), 0.10: (1480, 1860), 0.15: (870, 1230), 0.25: (580, 780)},
    "float32": {0.05: (1340, 1590), 0.10: (730, 990), 0.15: (500, 680), 0.25: (290, 390)},
}
"""Mean input to the slowest and fastest shape, in G/s of the multiply-accumulates that a dense
product would need. 8-bit weights are held, and added, as int16."""
PROTOTYPE_SOURCE = "a prototype on an AMD EPYC with AVX-512, two threads"


def prototype_additions(precision: str, rate: float) -> tuple[float, float]:
    """G additions/s of the prototype at a mean input: its slowest and fastest shape.

    Between measured rates interpolated, and beyond them as at the nearest.
    """
    rates = sorted(PROTOTYPE[precision])
    slow, fast = (
        float(np.interp(rate, rates, [r * PROTOTYPE[precision][r][end] for r in rates]))
        for end in (0, 1)
    )
    return slow, fast


@dataclass(frozen=True)
class Bound:
    """What a network's layers could reach.

    Args:
        seconds: Of an image, by operation, at the middle of the prototype's shapes.
        images_per_second: All of them together.
        slowest, fastest: The same at the prototype's slowest and fastest shape.
    """

    seconds: Mapping[str, float]
    images_per_second: float
    slowest: float
    fastest: float


def bound(precision: str, rows: Sequence[Mapping[str, Any]], dense_speed: float | None) -> Bound:
    """The bound that measured rates imply.

    A layer on events takes its additions at the prototype's rate, and its measured time when all
    inputs are silent, which is that of its neurons and of packing. A dense one takes its
    multiply-accumulates at `dense_speed`; one on pixels, and whatever is no layer, its own time.

    Args:
        rows: Of `LayerProfile.rows`.
        dense_speed: G multiply-accumulates/s of the fastest dense product in this precision.
    """
    found: dict[str, float] = {}
    totals = [0.0, 0.0]
    for row in rows:
        ends = _seconds(precision, row, dense_speed)
        found[row["name"]] = sum(ends) / 2
        totals = [total + end for total, end in zip(totals, ends, strict=True)]
    middle = sum(found.values())
    return Bound(found, 1 / middle, 1 / totals[0], 1 / totals[1])


def _seconds(
    precision: str, row: Mapping[str, Any], dense_speed: float | None
) -> tuple[float, float]:
    if row["kind"] != "layer" or row["rate"] is None:
        return row["seconds"], row["seconds"]
    if row["path"] == "dense":
        best = row["macs"] / dense_speed / 1e9 if dense_speed else row["seconds"]
        return best, best
    slow, fast = prototype_additions(precision, row["rate"])
    silent = min(row["silent_seconds"], row["seconds"])  # not what else the machine did
    return row["additions"] / slow / 1e9 + silent, row["additions"] / fast / 1e9 + silent
