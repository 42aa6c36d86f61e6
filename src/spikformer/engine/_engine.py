"""What `compile` and `load` return: a network that answers, tells how it runs, and is saved."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from spikformer.engine import _library
from spikformer.engine._packing import ARITHMETIC, PATHS, check_arrays
from spikformer.engine._run import Call, Runner
from spikformer.engine._stream import State, Stream
from spikformer.errors import ConfigError, first_line, unknown_name
from spikformer.export.plan import INPUT, SPIKES, Plan

GROUP = 8
"""Images at once: their spikes stay in the cache, and each weight is fetched once for all."""

MOST_THREADS = 1024


class LayerReport(NamedTuple):
    """How one layer runs.

    Args:
        rate: Mean of its input's elements on the example, additions per multiply-accumulate.
        path: `events` or `dense`.
        arithmetic: Of its sums.
        macs: Multiply-accumulates of a dense product, per image and step.
    """

    name: str
    rate: float | None
    path: str
    arithmetic: str
    macs: int


class Engine:
    """A network ready to run on the CPU, in NumPy arrays.

    Made by `compile` or `load`. Calls from several threads wait for each other.

    Args:
        arrays: Weights by name, as `spikformer.export.plan` lists them.
        threads: None takes the processors that this process may use.
        instruction_set: None takes the best; see `instruction_sets()`.
        facts: What else the file is to say, as JSON can: classes, means of pixels.
        path: `events` or `dense` for all layers that read spikes, instead of what is best.
        tile: Columns that event-driven layers add at once, likewise.

    Raises:
        ConfigError: when the kernels were not built, or an argument is unknown.
        WeightsError: when plan and weights do not fit.
    """

    def __init__(
        self,
        plan: Plan,
        arrays: dict[str, np.ndarray],
        *,
        threads: int | None = None,
        instruction_set: str | None = None,
        facts: Mapping[str, Any] | None = None,
        path: str | None = None,
        tile: int | None = None,
    ) -> None:
        if path not in (None, *PATHS):
            raise unknown_name("path", str(path), PATHS)
        if threads is not None and not 0 < threads <= MOST_THREADS:
            raise ConfigError(f"threads must be 1 to {MOST_THREADS}, got {threads}")
        check_arrays(plan, arrays)
        self.plan = plan
        self.arrays = arrays
        self.facts = dict(facts or {})
        try:
            json.dumps(self.facts)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"facts must be what JSON can write: {first_line(error)}") from error
        self.precision = "int8" if any(n.endswith(".scale") for n in arrays) else "float32"
        self.threads = threads or min(_library.processors(), MOST_THREADS)
        self.instruction_set = _library.check_instruction_set(instruction_set)
        self._runner = Runner(
            plan,
            arrays,
            threads=self.threads,
            instruction_set=self.instruction_set,
            path=path,
            tile=tile,
        )

    def __call__(self, images: Any) -> np.ndarray:
        """Logits [B, K] of images [B, C, H, W] or frames [B, T, C, H, W].

        Args:
            images: An array or CPU tensor; a still image is seen `plan.steps` times.

        Raises:
            ConfigError: when the images do not have the plan's shape.
        """
        return self._logits(images)[0]

    def forward_steps(self, images: Any) -> np.ndarray:
        """Logits [T, B, K] of each step."""
        return self._logits(images)[1].swapaxes(0, 1)

    def _logits(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        frames, steps = self._frames(images)
        classes = self.plan.head.classes
        logits = np.empty((len(frames), classes), np.float32)
        by_step = np.empty((len(frames), steps, classes), np.float32)
        for first in range(0, len(frames), GROUP):
            part = slice(first, first + GROUP)
            with self._runner.running(Call(len(frames[part]), frames.shape[1], steps)) as prepared:
                prepared.buffers[INPUT][...] = frames[part]
                self._runner.run(prepared)
                logits[part] = prepared.buffers[self.plan.head.output]
                by_step[part] = prepared.step_logits
        return logits, by_step

    def stream(self, state: State | None = None) -> Stream:
        """Take frames as they come; from `state` on, if there is one.

        Raises:
            ConfigError: when the state is not of this network.
        """
        return Stream(self._runner, state)

    def trace(self, images: Any) -> dict[str, np.ndarray]:
        """Spikes and counts of every operation by its output's name, [T, B, C, H, W] in bytes."""
        frames, steps = self._frames(images)
        prepared = self._runner.fresh(Call(len(frames), frames.shape[1], steps))
        prepared.buffers[INPUT][...] = frames
        with self._runner.lock:
            self._runner.run(prepared)
        return {
            name: _unpacked(prepared.buffers[name], value.storage == SPIKES, value.channels)
            for name, value in self._runner.values.items()
            if value.maximum
        }

    def seconds(self, images: Any, repeats: int = 1) -> dict[str, float]:
        """Mean seconds that each operation takes on these images, by its output's name."""
        if repeats < 1:
            raise ConfigError(f"repeats must be at least 1, got {repeats}")
        frames, steps = self._frames(images)
        took = np.zeros(len(self.plan.operations))
        for first in range(0, len(frames), GROUP):
            part = frames[first : first + GROUP]
            with self._runner.running(Call(len(part), frames.shape[1], steps)) as prepared:
                prepared.buffers[INPUT][...] = part
                self._runner.run(prepared)
                for _ in range(repeats):
                    self._runner.run(prepared, took)
        names = [operation.output for operation in self.plan.operations]
        return dict(zip(names, (took / repeats).tolist(), strict=True))

    def layers(self) -> list[LayerReport]:
        """How each layer runs, and at which rate that was decided."""
        values = self._runner.values
        return [
            LayerReport(
                layer.name,
                layer.rate,
                PATHS[self._runner.packed[layer.name].path],
                ARITHMETIC[self._runner.packed[layer.name].arithmetic],
                values[layer.output].size * layer.kernel**2 * values[layer.input].channels,
            )
            for layer in self.plan.layers
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write plan and weights to one file; see `load`.

        Raises:
            OSError: whatever writing raised; what was there before is then untouched.
        """
        from spikformer.engine._file import save

        save(self, path)

    def __repr__(self) -> str:
        events = sum(report.path == "events" for report in self.layers())
        return (
            f"Engine({self.precision}, {len(self.plan.layers)} layers of which {events} by events, "
            f"{self.instruction_set}, {self.threads} threads)"
        )

    def _frames(self, images: Any) -> tuple[np.ndarray, int]:
        """[B, t, C, H, W] with the one frame of still images, and how many steps are run."""
        plan = self.plan
        try:
            array = np.asarray(images)
        except (
            TypeError,
            RuntimeError,
        ) as error:  # tensors of other devices, types, with gradients
            raise ConfigError(f"images are no array: {first_line(error)}") from error
        shape = plan.channels, plan.height, plan.width
        if array.ndim not in (4, 5) or array.shape[-3:] != shape or 0 in array.shape[:-3]:
            raise ConfigError(
                f"images must be [B, {', '.join(map(str, shape))}], or frames with T after B, "
                f"got {[*array.shape]}"
            )
        if array.ndim == 5:
            return array, array.shape[1]
        if not plan.still:
            raise ConfigError("this engine was compiled on frames, and sees frames [B, T, C, H, W]")
        return array[:, None], plan.steps


def _unpacked(buffer: np.ndarray, bits: bool, channels: int) -> np.ndarray:
    """[B, T, H, W, words or bytes] as bytes [T, B, C, H, W]."""
    if bits:
        buffer = np.unpackbits(buffer.view(np.uint8), axis=-1, bitorder="little")
    return np.moveaxis(buffer[..., :channels], (1, 4), (0, 2))
