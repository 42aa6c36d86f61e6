"""Frames as they come: potentials stay between them, in a state that can be stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikformer.engine._file import UNREADABLE
from spikformer.engine._run import Call, Runner
from spikformer.errors import ConfigError, WeightsError, first_line
from spikformer.export.plan import INPUT

SUMS, STEPS, NETWORK = ".logits", ".steps", ".network"
DIGEST_BYTES = 32


@dataclass(frozen=True)
class State:
    """All that a network remembers between two frames.

    Args:
        potentials: Of each neuron layer by name, float32, padded as the kernels want them.
        sums: Of the logits so far, [B, K], float64.
        steps: Frames so far.
        network: Digest of the plan and weights that it belongs to, hexadecimal.
    """

    potentials: dict[str, np.ndarray]
    sums: np.ndarray
    steps: int
    network: str

    def to_bytes(self) -> bytes:
        """The state as a safetensors file."""
        from safetensors.numpy import save

        steps = np.array([self.steps], np.int64)
        network = np.frombuffer(bytes.fromhex(self.network), np.uint8)
        return save(self.potentials | {SUMS: self.sums, STEPS: steps, NETWORK: network})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """Read what `to_bytes` wrote.

        Raises:
            WeightsError: when it is none.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(data)
            sums, steps, network = (arrays.pop(name) for name in (SUMS, STEPS, NETWORK))
        except (SafetensorError, *UNREADABLE) as error:
            raise WeightsError(f"this is no state of an engine: {first_line(error)}") from error
        if steps.shape != (1,) or steps.dtype != np.int64 or steps[0] < 0:
            raise WeightsError("this is no state of an engine: its number of steps is none")
        if sums.ndim != 2 or sums.dtype != np.float64:
            raise WeightsError("this is no state of an engine: its sums of logits are none")
        if network.shape != (DIGEST_BYTES,) or network.dtype != np.uint8:
            raise WeightsError("this is no state of an engine: its network's digest is none")
        return cls(arrays, sums, int(steps[0]), network.tobytes().hex())


class Stream:
    """A network that sees one frame a call. Its memory is `state`, and nothing else."""

    def __init__(self, runner: Runner, state: State | None) -> None:
        self._runner = runner
        self._given = state
        self._prepared = None
        self._sums = np.zeros((0, runner.plan.head.classes))
        self.steps = 0
        if state is not None:
            self._begin(len(state.sums) if state.sums.ndim == 2 else 0)

    def __call__(self, frame: Any) -> np.ndarray:
        """This step's logits [B, K] of a frame [B, C, H, W].

        Raises:
            ConfigError: when the frame has another shape, or another B than those before.
        """
        array = np.asarray(frame)
        plan = self._runner.plan
        expected = plan.channels, plan.height, plan.width
        streams = array.shape[:1] if self._prepared is None else (len(self._sums),)
        if array.ndim != 4 or array.shape != (*streams, *expected) or not len(array):
            raise ConfigError(
                f"a frame must be {[*(streams or ('B',)), *expected]}, got {[*array.shape]}"
            )
        if self._prepared is None:
            self._begin(len(array))
        prepared = self._prepared
        assert prepared is not None
        with self._runner.lock:
            prepared.buffers[INPUT][:, 0] = array
            self._runner.run(prepared)
            logits = prepared.step_logits[:, 0].copy()
            self._sums += logits
            self.steps += 1
        return logits

    @property
    def logits(self) -> np.ndarray:
        """The mean over the steps so far, [B, K]; after a clip's last frame its logits, to rounding.

        Raises:
            ConfigError: before the first frame.
        """
        if not self.steps:
            raise ConfigError("a stream has no logits before its first frame")
        return (self._sums / self.steps).astype(np.float32)

    @property
    def state(self) -> State:
        """A copy of all that is remembered.

        Raises:
            ConfigError: before the first frame.
        """
        if self._prepared is None:
            raise ConfigError("a stream has no state before its first frame")
        copies = {name: array.copy() for name, array in self._prepared.state.items()}
        return State(copies, self._sums.copy(), self.steps, self._runner.digest)

    def _begin(self, streams: int) -> None:
        given = self._given
        classes = self._runner.plan.head.classes
        if given is not None and given.network != self._runner.digest:
            raise ConfigError("the state is not of this network: it belongs to other weights")
        if (given is not None and given.sums.shape != (streams, classes)) or not streams:
            raise ConfigError("the state is not of this network: its logits have another shape")
        self._prepared = self._runner.fresh(Call(streams, 1, 1, streaming=True))
        self._sums = np.zeros((streams, classes))
        if given is None:
            return
        own = self._prepared.state
        for name in own.keys() | given.potentials.keys():
            one, other = own.get(name), given.potentials.get(name)
            if one is None or other is None or (one.shape, one.dtype) != (other.shape, other.dtype):
                raise ConfigError(f"the state is not of this network: {name} does not fit")
            one[...] = other
        self._sums[...] = given.sums
        self.steps = given.steps
