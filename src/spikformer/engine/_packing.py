"""Weights as the kernels read them: tiles of columns, in the arithmetic that provably suffices."""

from typing import NamedTuple

import numpy as np

from spikformer.errors import ConfigError, WeightsError
from spikformer.export.plan import PIXELS, Layer, Plan, Value

FLOAT, INT16, DOT8 = range(3)
ARITHMETIC = ("float32", "int16", "int8 dot products")
EVENTS, DENSE = range(2)
PATHS = ("events", "dense")
DENSE_TILE = 64
CROSSOVER = {
    "float32": {"avx512": 0.48},
    "int8": {"avx512": 0.4, "avx2": 1.4, "neon": 1.4, "portable": 1.4},
}
"""Mean of a layer's input from which dense products win, as measured: docs/engine.md."""
USUAL_CROSSOVER = 0.85
TILES = {INT16: (128, 96, 64, 32), FLOAT: (64, 96, 128, 32, 16)}
"""Columns at once, the fastest first where they divide the columns alike."""
SPARSE, SPARSE_TILES = 0.15, (96, 128, 64, 32, 16)
"""The same for float32 where fewer fire: what a list costs counts for more than the cache."""


class Packed(NamedTuple):
    """A layer's weights, ready to run."""

    path: int
    arithmetic: int
    tile: int
    weights: np.ndarray
    scales: np.ndarray | None
    bias: np.ndarray
    safe_events: int


def pack(
    layer: Layer,
    value: Value,
    arrays: dict[str, np.ndarray],
    *,
    instruction_set: str,
    path: str | None = None,
    tile: int | None = None,
) -> Packed:
    """Choose how a layer runs, and lay its weights out for that.

    Args:
        value: The layer's input.
        instruction_set: What it will run on.
        path: `events` or `dense` instead of what the measured rate says.
        tile: Columns of an event-driven tile, one of `TILES`, instead of the best.

    Raises:
        ConfigError: for a tile that there is not.
    """
    weight, bias = arrays[f"{layer.name}.weight"], arrays[f"{layer.name}.bias"]
    scale = arrays.get(f"{layer.name}.scale")
    precision = "float32" if scale is None else "int8"
    crossover = CROSSOVER[precision].get(instruction_set, USUAL_CROSSOVER)
    measured = 0.0 if layer.rate is None else layer.rate
    dense = path == "dense" or (path is None and measured >= crossover)
    dense = dense or value.storage == PIXELS
    if scale is None:
        arithmetic = FLOAT
    else:
        arithmetic = DOT8 if dense else INT16
    if not dense and tile is not None and tile not in TILES[arithmetic]:
        raise ConfigError(f"tile must be one of {TILES[arithmetic]}, got {tile}")
    tile = DENSE_TILE if dense else tile or best_tile(arithmetic, measured, weight.shape[2])
    if dense and arithmetic == DOT8:
        weights = _tiles(_in_fours(weight), tile)
    else:
        weights = _tiles(weight.astype(np.float32 if scale is None else np.int8), tile)
        if not dense:
            rows = weights.reshape(len(weights), -1, tile)
            weights = np.pad(rows, [(0, 0), (0, 1), (0, 0)])  # the row of zeros
    columns = -(-weight.shape[2] // tile) * tile
    return Packed(
        DENSE if dense else EVENTS,
        arithmetic,
        tile,
        aligned(weights),
        None if scale is None else aligned(_padded(scale, columns).astype(np.float32)),
        aligned(_padded(bias, columns).astype(np.float32)),
        safe_events(weight) if arithmetic == INT16 else 0,
    )


def best_tile(arithmetic: int, rate: float, columns: int) -> int:
    """The tile that computes the fewest columns in vain."""
    sparse = arithmetic == FLOAT and rate < SPARSE
    return min(SPARSE_TILES if sparse else TILES[arithmetic], key=lambda tile: -columns % tile)


def safe_events(weight: np.ndarray) -> int:
    """How many rows of integer weights can be added in int16 without overflow, whatever they are."""
    return int(
        np.iinfo(np.int16).max // max(1, int(np.abs(weight.astype(np.int64)).max(initial=0)))
    )


def check_arrays(plan: Plan, arrays: dict[str, np.ndarray]) -> None:
    """Check that the weights are those that a plan speaks of.

    Raises:
        WeightsError: when one is missing, or has another shape or type; or one is not known.
    """
    values = plan.values()
    expected: dict[str, tuple[tuple[int, ...], type]] = {}
    for layer in plan.layers:
        value = values[layer.input]
        scaled = f"{layer.name}.scale" in arrays
        if scaled and value.storage == PIXELS:
            raise WeightsError(f"{layer.name} reads pixels, and cannot be in int8")
        shape = layer.kernel**2, value.channels, layer.out_channels
        expected[f"{layer.name}.weight"] = shape, np.int8 if scaled else np.float32
        expected[f"{layer.name}.bias"] = shape[2:], np.float32
        if scaled:
            expected[f"{layer.name}.scale"] = shape[2:], np.float32
    head = plan.head
    expected[f"{head.name}.weight"] = (head.classes, values[head.input].channels), np.float32
    expected[f"{head.name}.bias"] = (head.classes,), np.float32
    if odd := expected.keys() ^ arrays.keys():
        raise WeightsError(f"weights and plan differ in {', '.join(sorted(odd)[:3])}")
    for name, (shape, kind) in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != kind:
            found = f"{arrays[name].dtype} {[*arrays[name].shape]}"
            raise WeightsError(f"{name} must be {np.dtype(kind)} {[*shape]}, got {found}")


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes."""
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Zeros that begin at a multiple of 64 bytes; pages that nobody touches cost nothing."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


def _padded(array: np.ndarray, columns: int) -> np.ndarray:
    """Zeros behind the last axis, up to `columns`."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, columns - array.shape[-1])])


def _tiles(weight: np.ndarray, tile: int) -> np.ndarray:
    """[taps, C, D, ...] as [tiles, taps, C, tile, ...]."""
    taps, channels, columns, *rest = weight.shape
    pad = [(0, 0), (0, 0), (0, -columns % tile)] + [(0, 0)] * len(rest)
    split = np.pad(weight, pad).reshape(taps, channels, -1, tile, *rest)
    return np.ascontiguousarray(np.moveaxis(split, 2, 0))


def _in_fours(weight: np.ndarray) -> np.ndarray:
    """[taps, C, D] as [taps, C/4, D, 4]: four channels of one column side by side."""
    taps, channels, columns = weight.shape
    padded = np.pad(weight.astype(np.int8), [(0, 0), (0, -channels % 4), (0, 0)])
    return padded.reshape(taps, -1, 4, columns).transpose(0, 1, 3, 2)
