"""What runs a plan: buffers laid out once, and one array of C structures for each way to call."""

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from spikformer.engine import _library
from spikformer.engine._file import digest
from spikformer.engine._packing import DENSE, DOT8, Packed, empty, pack
from spikformer.errors import ConfigError
from spikformer.export.plan import (
    CHARGES,
    COUNTS,
    INPUT,
    PIXELS,
    SPIKES,
    Add,
    Attention,
    Head,
    Layer,
    Neuron,
    Operation,
    Plan,
    Value,
)

KIND = {"layer": 0, "pool": 1, "add": 2, "attention": 3, "head": 4}
STORAGE = {PIXELS: 0, SPIKES: 1, COUNTS: 2}
MOST_KEPT = 16
"""Ways of calling whose buffers are kept."""


class Call(NamedTuple):
    """A way to run: how many images at once, seen how often, from how many frames each."""

    images: int
    steps_in: int
    steps: int
    streaming: bool = False


class Runner:
    """A plan with packed weights on one instruction set, and a pool of threads.

    Args:
        path, tile: As in `pack`.
    """

    def __init__(
        self,
        plan: Plan,
        arrays: dict[str, np.ndarray],
        *,
        threads: int,
        instruction_set: str,
        path: str | None = None,
        tile: int | None = None,
    ) -> None:
        self.plan, self.values = plan, plan.values()
        self._arrays = arrays
        self.threads = threads
        self.instruction_set = instruction_set
        self.library = _library.library()
        options: Any = {"instruction_set": instruction_set, "path": path, "tile": tile}
        self.packed: dict[str, Packed] = {
            layer.name: pack(layer, self.values[layer.input], arrays, **options)
            for layer in plan.layers
        }
        head = plan.head
        self.head_weights = [
            np.ascontiguousarray(arrays[f"{head.name}.{part}"], np.float32)
            for part in ("weight", "bias")
        ]
        self._pool, self._process = None, 0
        self.lock = threading.Lock()
        self._kept: dict[Call, Prepared] = {}

    @cached_property
    def digest(self) -> str:
        """Tells this network from all others."""
        return digest(self.plan.to_json(), self._arrays)

    @contextmanager
    def running(self, call: Call) -> Iterator["Prepared"]:
        """Buffers for a way of calling, kept for the next time; nobody else has them meanwhile."""
        with self.lock:
            prepared = self._kept.pop(call, None)
            while prepared is None and len(self._kept) >= MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))  # the one that waited longest
            self._kept[call] = prepared or self.fresh(call)
            yield self._kept[call]

    def fresh(self, call: Call) -> "Prepared":
        """Buffers of one's own."""
        return Prepared(self, call)

    def run(self, prepared: "Prepared", seconds: np.ndarray | None = None) -> None:
        pointer = None
        if seconds is not None:
            pointer = seconds.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        status = self.library.spk_run(
            prepared.operations,
            len(prepared.operations),
            self.instruction_set.encode(),
            self._threads(),
            pointer,
        )
        assert status == 0, "the instruction set was checked"

    def _threads(self) -> Any:
        """The pool; a forked process has none of its parent's threads, and makes its own."""
        if self._process != os.getpid():
            pool = self.library.spk_pool_new(self.threads)
            if pool is None:
                raise ConfigError(f"the system does not give {self.threads} threads: ask for fewer")
            self._pool, self._process = pool, os.getpid()
            finalizer = weakref.finalize(self, _free, self.library, pool, self._process)
            finalizer.atexit = False  # a thread of someone's may still be in there
        return self._pool


def _free(library: Any, pool: int, process: int) -> None:
    if os.getpid() == process:
        library.spk_pool_free(pool)


class Prepared:
    """All that one way of calling needs: buffers by value, state by layer, operations."""

    def __init__(self, runner: Runner, call: Call) -> None:
        self.call = call
        self.buffers = {name: self._buffer(name, value) for name, value in runner.values.items()}
        self.step_logits = np.zeros((call.images, call.steps, runner.plan.head.classes), np.float32)
        self.state: dict[str, np.ndarray] = {}
        self._shared = _shared(runner, call)
        self.operations = (_library.COperation * len(runner.plan.operations))(
            *(self._operation(runner, each) for each in runner.plan.operations)
        )

    def _buffer(self, name: str, value: Value) -> np.ndarray:
        images, steps_in, steps, _ = self.call
        if name == INPUT:
            return empty((images, steps_in, value.channels, value.height, value.width), np.float32)
        if value.storage == PIXELS:
            return empty((images, value.channels), np.float32)
        words = -(-value.channels // 64)
        rows = images, steps, value.height, value.width
        if value.storage == SPIKES:
            return empty((*rows, words), np.uint64)
        return empty((*rows, words * 64), np.uint8)

    def _operation(self, runner: Runner, operation: Operation) -> _library.COperation:
        value = runner.values[operation.input]
        call = self.call
        c = _library.COperation(
            kind=KIND[operation.kind],
            storage=STORAGE[value.storage],
            images=call.images,
            steps_in=call.steps_in if operation.input == INPUT else call.steps,
            steps=call.steps,
            height=value.height,
            width=value.width,
            channels=value.channels,
            input=_address(self.buffers[operation.input]),
            output=_address(self.buffers[operation.output]),
            scratch=_address(self._shared["scratch"]),
            scratch_bytes=self._shared["scratch"].shape[1],
        )
        if isinstance(operation, Layer):
            self._fill_layer(c, runner, operation, value)
        elif isinstance(operation, Add):
            c.other_storage = STORAGE[runner.values[operation.other].storage]
            c.other = _address(self.buffers[operation.other])
        elif isinstance(operation, Attention):
            self._fill_attention(c, operation, value)
        elif isinstance(operation, Head):
            c.out_channels = operation.classes
            c.weights, c.bias = map(_address, runner.head_weights)
            c.steps_output = _address(self.step_logits)
        return c

    def _fill_layer(
        self, c: _library.COperation, runner: Runner, layer: Layer, value: Value
    ) -> None:
        packed = runner.packed[layer.name]
        c.path, c.arithmetic, c.tile = packed.path, packed.arithmetic, packed.tile
        c.out_channels, c.kernel = layer.out_channels, layer.kernel
        c.block = _block(value, self.call.images * -(-layer.out_channels // packed.tile), runner)
        c.neuron = _neuron(layer.neuron)
        c.weights, c.bias = _address(packed.weights), _address(packed.bias)
        c.scales = None if packed.scales is None else _address(packed.scales)
        c.starts = _address(self._shared["starts"])
        if packed.path == DENSE:
            c.dense = _address(self._shared["dense"])
        else:
            c.events_per_step, c.safe_events = events_per_step(value), packed.safe_events
            c.events = _address(self._shared["events"])
        columns = -(-layer.out_channels // 64) * 64
        self._keep(c, layer.name, (value.height * value.width, columns), layer.neuron)

    def _fill_attention(self, c: _library.COperation, attention: Attention, value: Value) -> None:
        width = value.channels // 3
        c.channels = width
        c.heads, c.pool, c.scale = attention.heads, attention.pool, attention.scale
        c.keys_first = attention.keys_first(value)
        c.neuron = _neuron(attention.neuron)
        tokens, row = value.height * value.width, _padded_head(width // attention.heads)
        self._keep(c, attention.name, (attention.heads, tokens, row), attention.neuron)

    def _keep(
        self, c: _library.COperation, name: str, shape: tuple[int, ...], neuron: Neuron
    ) -> None:
        """Give a streaming neuron's potentials a place."""
        if self.call.streaming:
            self.state[name] = empty((self.call.images, *shape), np.float32)
            self.state[name][...] = neuron.rest
            c.potential = _address(self.state[name])


BLOCK, LEAST_BLOCK = 64, 8
"""Positions of an item of work: enough for a tile's weights to stay near."""
ITEMS_PER_THREAD = 4
"""So many, that no thread waits long for the last of another."""


def _block(value: Value, tiles: int, runner: Runner) -> int:
    """Positions of an item of a layer with so many tiles of all images."""
    block = BLOCK
    while block > LEAST_BLOCK and (
        -(-value.height * value.width // block) * tiles < ITEMS_PER_THREAD * runner.threads
    ):
        block //= 2
    return block


def events_per_step(value: Value) -> int:
    return value.height * value.width * value.channels * max(value.maximum, 1) + 16


def _shared(runner: Runner, call: Call) -> Mapping[str, np.ndarray]:
    """What operations use one after the other, each as large as the greediest needs."""
    events = dense = 0
    starts = 1
    scratch = 64
    for operation in runner.plan.operations:
        value = runner.values[operation.input]
        positions = value.height * value.width
        if isinstance(operation, Layer):
            packed = runner.packed[operation.name]
            if packed.path == DENSE:
                border = operation.kernel // 2 * 2
                area = (value.height + border) * (value.width + border)
                row = -(-value.channels // 4) * 4 * (1 if packed.arithmetic == DOT8 else 4)
                dense = max(dense, area * row)
            else:
                events = max(events, events_per_step(value))
                starts = max(starts, positions + 1)
        elif isinstance(operation, Attention):
            width = value.channels // 3 // operation.heads
            row = _padded_head(width)
            bits = 3 * positions * -(-width // 64) * 8
            scratch = max(scratch, (2 * positions + width) * row * 4 + bits)
        elif isinstance(operation, Head):
            scratch = max(scratch, 2 * value.channels * 4)
    frames = call.images * call.steps
    return {
        "events": empty((frames, events), np.uint32),
        "starts": empty((frames, starts), np.uint32),
        "dense": empty((frames, dense), np.uint8),
        "scratch": empty((runner.threads, -(-scratch // 64) * 64), np.uint8),
    }


def _padded_head(width: int) -> int:
    return -(-width // 16) * 16


def _neuron(neuron: Neuron) -> _library.CNeuron:
    return _library.CNeuron(
        charge=CHARGES.index(neuron.charge),
        soft_reset=neuron.soft_reset,
        tau=neuron.tau,
        rate=neuron.rate,
        threshold=neuron.threshold,
        rest=neuron.rest,
    )


def _address(array: np.ndarray) -> int:
    return array.ctypes.data
