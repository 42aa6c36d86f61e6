"""An engine layer by layer: rates, paths, time, and time when nothing fires."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikformer.bench.contenders import Materials
from spikformer.bench.products import dense_macs, runs_per_image
from spikformer.export.plan import INPUT, Layer

SILENCING_BIAS = -1000.0
AT_ONCE = 8
TIMED = 9
"""Passes, of which the fastest counts: the bound is to be no easier than it is."""


class LayerProfile:
    """The engine of one precision in a process of its own.

    Args:
        images: How many are shown, from the first on.
    """

    def __init__(self, precision: str, materials: Materials, images: int) -> None:
        from spikformer.engine import load

        self.engine = load(materials.engine(precision), threads=materials.threads)
        self.images = materials.read_images()[:images]
        self.still = self.images.ndim == 4
        self.steps = self.engine.plan.steps if self.still else self.images.shape[1]

    def about(self) -> dict[str, Any]:
        """What runs, and how much a dense network would multiply for an image."""
        return {
            "instruction_set": self.engine.instruction_set,
            "threads": self.engine.threads,
            "dense_macs": dense_macs(self.engine.plan, self.still, self.steps),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Of each operation, for one image.

        `rate` is the mean of its input's elements on these images: additions per
        multiply-accumulate. `silent_seconds` is what the same layer takes when all biases are
        -1000, so that nothing fires.
        """
        rates = self._rates()
        took = self._seconds(self.engine)
        silent = self._seconds(self._silenced())
        reports = {report.name: report for report in self.engine.layers()}
        found = []
        for operation in self.engine.plan.operations:
            row: dict[str, Any] = {
                "name": operation.output,
                "kind": operation.kind,
                "seconds": took[operation.output],
                "silent_seconds": silent[operation.output],
            }
            if isinstance(operation, Layer):
                report = reports[operation.name]
                rate = None if operation.input == INPUT else rates[operation.input]
                macs = report.macs * runs_per_image(operation, self.still, self.steps)
                row |= {"name": operation.name, "path": report.path, "rate": rate, "macs": macs}
                row |= {"arithmetic": report.arithmetic, "calibrated_rate": report.rate}
                row["additions"] = None if rate is None else macs * rate
            found.append(row)
        return found

    def _rates(self) -> dict[str, float]:
        sums: dict[str, float] = {}
        for first in range(0, len(self.images), AT_ONCE):
            part = self.images[first : first + AT_ONCE]
            for name, value in self.engine.trace(part).items():
                sums[name] = sums.get(name, 0.0) + float(value.mean(dtype=np.float64)) * len(part)
        return {name: total / len(self.images) for name, total in sums.items()}

    def _seconds(self, engine: Any) -> dict[str, float]:
        passes: Sequence[dict[str, float]] = [engine.seconds(self.images) for _ in range(TIMED)]
        return {name: min(each[name] for each in passes) / len(self.images) for name in passes[0]}

    def _silenced(self) -> Any:
        from spikformer.engine import Engine

        plan, arrays = self.engine.plan, dict(self.engine.arrays)
        for layer in plan.layers:
            name = f"{layer.name}.bias"
            arrays[name] = np.full_like(arrays[name], SILENCING_BIAS)
        return Engine(plan, arrays, threads=self.engine.threads)
