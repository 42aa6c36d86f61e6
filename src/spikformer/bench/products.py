"""Dense rooflines: how fast this machine multiplies matrices, and what that allows a network."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from spikformer.export.plan import INPUT, Layer, Plan

ROWS = 8192
RUNS = 3
MOST_SHAPES = 4
RATE = 0.15
"""Of the ones in the left matrix; dense products do not care."""


class Shape(NamedTuple):
    """A product of [rows, inner] and [inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        return self.rows * self.inner * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.inner}x{self.columns}"


def typical_shapes(plan: Plan, rows: int = ROWS) -> list[Shape]:
    """The products in which a plan's layers multiply most, convolutions unfolded."""
    values, macs = plan.values(), {}
    for layer in plan.layers:
        if layer.input != INPUT:
            inner = layer.kernel**2 * values[layer.input].channels
            shape = Shape(rows, inner, layer.out_channels)
            macs[shape] = macs.get(shape, 0) + values[layer.output].size * inner
    return sorted(macs, key=lambda shape: -macs[shape])[:MOST_SHAPES]


def dense_macs(plan: Plan, still: bool, steps: int) -> int:
    """Multiply-accumulates of a dense product in all layers, for one image; without attention.

    Args:
        still: Whether one frame is seen `steps` times: the first layer then runs once.
    """
    values = plan.values()
    return sum(
        values[layer.output].size
        * layer.kernel**2
        * values[layer.input].channels
        * runs_per_image(layer, still, steps)
        for layer in plan.layers
    )


def runs_per_image(layer: Layer, still: bool, steps: int) -> int:
    """How often a layer multiplies for one image."""
    return 1 if still and layer.input == INPUT else steps


class Products:
    """PyTorch's dense products in a process of their own.

    Each product is tried as a matrix product and as the convolution that it stands for, in 8 bits by
    `_int_mm` and by oneDNN's u8 x s8 operations too, which round their sums to bfloat16; the fastest
    counts. The left matrix is 0 and 1 in all of them.
    """

    def __init__(self, shapes: Sequence[Shape], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.runs = {shape: dict(_products(shape)) for shape in shapes}
        self.turn()

    def turn(self) -> dict[str, float]:
        """G multiply-accumulates/s of each type, at its best shape."""
        return {
            kind: max(speeds.values()) for kind, speeds in _by_kind(self.of_all_shapes()).items()
        }

    def of_all_shapes(self) -> dict[Shape, dict[str, float]]:
        """G multiply-accumulates/s of each type at each shape, of the fastest of some runs."""
        found = {}
        for shape, runs in self.runs.items():
            speeds: dict[str, float] = {}
            for name, run in runs.items():
                kind = name.partition(",")[0]
                speeds[kind] = max(speeds.get(kind, 0.0), shape.macs / _fastest(run) / 1e9)
            found[shape] = speeds
        return found


def _by_kind(found: dict[Shape, dict[str, float]]) -> dict[str, dict[Shape, float]]:
    turned: dict[str, dict[Shape, float]] = {}
    for shape, speeds in found.items():
        for kind, speed in speeds.items():
            turned.setdefault(kind, {})[shape] = speed
    return turned


def _products(shape: Shape) -> Iterator[tuple[str, Callable[[], Any]]]:
    import torch

    library: Any = torch  # `_int_mm` is not in its stubs
    generator = np.random.default_rng(0)
    bits = torch.from_numpy(generator.random((shape.rows, shape.inner)) < RATE)
    weight = torch.from_numpy(generator.integers(-127, 128, (shape.inner, shape.columns), np.int8))
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = bits.to(dtype), weight.to(dtype)
        yield f"{name}, matrix", lambda left=left, right=right: torch.matmul(left, right)
        yield f"{name}, convolution", _convolution(left, right)
    signed, unsigned = bits.to(torch.int8), bits.to(torch.uint8)
    for name, run in (
        ("int8, _int_mm", lambda: library._int_mm(signed, weight)),
        ("int8, oneDNN", _onednn(unsigned, weight.t().contiguous())),
        ("int8, oneDNN convolution", _onednn_convolution(unsigned, weight)),
    ):
        try:
            run()
        except (RuntimeError, AttributeError, NotImplementedError):
            continue  # not in this build, or not on this processor
        yield name, run


def _as_images(left: Any, weight: Any) -> tuple[Any, Any]:
    """A product's factors as images and as the weights of a convolution that costs as much."""
    rows, inner = left.shape
    kernel = 3 if inner % 9 == 0 else 1
    side = next(side for side in (16, 8, 4, 2, 1) if rows % side**2 == 0)
    channels = inner // kernel**2
    images = left[:, :channels].contiguous().view(rows // side**2, side, side, channels)
    weights = weight.t().contiguous().view(weight.shape[1], channels, kernel, kernel)
    return images.permute(0, 3, 1, 2), weights


def _convolution(left: Any, weight: Any) -> Callable[[], Any]:
    import torch
    import torch.nn.functional as F

    images, weights = _as_images(left, weight)
    weights = weights.contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(images, weights, padding=weights.shape[-1] // 2)


def _onednn_convolution(left: Any, weight: Any) -> Callable[[], Any]:
    import torch

    images, weights = _as_images(left, weight)
    border = [weights.shape[-1] // 2] * 2
    places = [1, 1], border, [1, 1], 1
    return _onednn_run(
        torch.ops.onednn, "qconv", images, weights, (1.0, 0, *places, list(images.shape)), places
    )


def _onednn(left: Any, weight: Any) -> Callable[[], Any]:
    import torch

    return _onednn_run(torch.ops.onednn, "qlinear", left, weight, (), ())


def _onednn_run(
    operations: Any, name: str, left: Any, weight: Any, prepacking: Any, places: Any
) -> Callable[[], Any]:
    """One of oneDNN's quantised operations, whose weights are packed at the first run."""
    import torch

    packed: list[Any] = []
    columns = len(weight)
    scales, zeros = torch.ones(columns), torch.zeros(columns, dtype=torch.int32)
    quantised = 1.0, 0

    def run() -> Any:
        if not packed:
            prepack = getattr(operations, f"{name}_prepack")
            given = (scales, *prepacking) if prepacking else (list(left.shape),)
            packed.append(prepack(weight, *given))
        kept = *quantised, torch.bfloat16, "none", [], ""
        weights = packed[0], scales, zeros, None
        return getattr(operations, f"{name}_pointwise")(left, *quantised, *weights, *places, *kept)

    return run


def _fastest(run: Callable[[], Any]) -> float:
    import torch

    took = []
    with torch.inference_mode():
        for _ in range(RUNS):
            begun = time.perf_counter()
            run()
            took.append(time.perf_counter() - begun)
    return min(took)
