"""One run of a network, layer by layer, and where two runs part."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikformer.nn.recognition import named_neurons
from spikformer.probe.neurons import binarises
from spikformer.probe.subject import Subject, first_tensor

OUTPUT = "output"
"""The name that what a network returns goes by, after all of its layers."""
TIMELESS = "B"
"""The reading of a shape that has no axis of time."""


class Layer(NamedTuple):
    """What went in and came out.

    Args:
        module: Name of the module.
        input: Its first tensor, or None when it took none.
        output: Likewise.
    """

    module: str
    input: Tensor | None
    output: Tensor


@dataclass(frozen=True)
class Trace:
    """One run.

    Args:
        layers: Name to what it did, in the order in which they finished; last is `OUTPUT`. A
            module that is called once a step is one layer, with time in front.
        steps: $T$ of this run.
        batch: $B$ of this run.
        neurons: Layers whose output should be spikes: neurons by name or class, or by what they did.
        batch_statistics: Layers that normed by the statistics of their batch.
    """

    layers: dict[str, Layer]
    steps: int
    batch: int
    neurons: tuple[str, ...]
    batch_statistics: tuple[str, ...]

    @property
    def output(self) -> Tensor:
        return self.layers[OUTPUT].output

    def readings(self, name: str) -> dict[str, Tensor]:
        """A layer's output as [T, B, ...], in every way that its shape can be read.

        `TIMELESS` is one of them, [1, B, ...].
        """
        return self.readings_of(self.layers[name].output)

    def readings_of(self, x: Tensor) -> dict[str, Tensor]:
        """The same of any tensor."""
        T, B = self.steps, self.batch
        found = {}
        if x.shape[:2] == (T, B):
            found["T B"] = x
        if x.shape[:2] == (B, T):
            found["B T"] = x.transpose(0, 1)
        if x.shape[:1] == (T * B,):
            found["(T B)"] = x.unflatten(0, (T, B))
            found["(B T)"] = x.unflatten(0, (B, T)).transpose(0, 1)
        if x.shape[:1] == (B,):
            found[TIMELESS] = x[None]
            if T == 1:  # a module that is called once a step was called once
                found |= {"T B": x[None], "B T": x[None]}
            later = [axis for axis in range(2, x.dim()) if x.shape[axis] == T]
            found |= {f"B, T in axis {axis}": x.movedim(axis, 0) for axis in later}
        return found


def trace(
    subject: Subject, frames: Tensor, network: nn.Module | None = None, seed: int = 0
) -> Trace:
    """Run a network on frames [B, T, ...], and keep what each of its modules did.

    Args:
        subject: Whose network.
        frames: In the type that the network computes in.
        network: A copy of it that is to be used up; by default a fresh one.
        seed: Of what it may draw.

    Raises:
        ConfigError: when it fails, or returns neither [T, B, K] nor [B, K].
    """
    network = subject.fresh(frames.dtype) if network is None else network
    named = named_neurons(network)
    recorder = _Recorder()
    with torch.no_grad(), recorder.watching(network, named):
        output = subject.call(network, frames, seed=seed)
    steps, batch = subject.steps_of(frames), len(frames)
    layers: dict[str, Layer] = {}
    for module, calls in recorder.calls.items():
        layers |= _layers(module, calls, steps, batch)
    innermost = {name for name, module in network.named_modules() if not [*module.children()]}
    neurons = tuple(
        name
        for name, layer in layers.items()
        if layer.module in named
        or (layer.module in innermost and binarises(layer.input, layer.output))
    )
    layers[OUTPUT] = Layer(OUTPUT, None, output.detach().clone())
    statistics = tuple(dict.fromkeys(recorder.batch_statistics))
    return Trace(layers, steps, batch, neurons, statistics)


class Part(NamedTuple):
    """Some samples and the first steps of a run."""

    trace: Trace
    samples: slice
    steps: int | None = None

    def readings(self, name: str) -> dict[str, Tensor]:
        return {
            kind: x[: self.steps, self.samples] for kind, x in self.trace.readings(name).items()
        }


class Break(NamedTuple):
    """The first layer in which two runs differ.

    Args:
        layer: Its name.
        difference: The largest, in the unit of the layer's output.
    """

    layer: str
    difference: float


def first_break(
    pairs: Sequence[tuple[Part, Part]], tolerance: float, *, timed: bool = False
) -> tuple[Break | None, list[str]]:
    """Where the parts of any pair differ first, and which layers could be compared at all.

    A shape may be read in several ways, [T B] and [B T] say; a layer breaks where it differs by
    all of them.

    Args:
        pairs: What must be equal.
        tolerance: Largest difference that passes, relative to outputs above 1.
        timed: Compare only what has an axis of time.
    """
    compared = []
    for name in pairs[0][0].trace.layers:
        if not all(name in part.trace.layers for pair in pairs for part in pair):
            continue
        gaps = list(_gaps([(a.readings(name), b.readings(name)) for a, b in pairs], timed))
        if not gaps:
            continue
        compared.append(name)
        gap, size = min(gaps)
        if not gap <= tolerance * max(1.0, size):  # so that NaN differs
            return Break(name, gap), compared
    return None, compared


def first_difference(a: Trace, b: Trace, tolerance: float = 0.0) -> Break | None:
    """Where two runs of equal shapes differ first."""
    for name, layer in a.layers.items():
        other = b.layers.get(name)
        if other is None or other.output.shape != layer.output.shape:
            return Break(name, float("inf"))
        gap = largest_gap(layer.output, other.output)
        if not gap <= tolerance:
            return Break(name, gap)
    return None


def largest_gap(a: Tensor, b: Tensor) -> float:
    """The largest difference; no number where one of them is none."""
    if torch.equal(a, b) or a.numel() == 0:
        return 0.0
    return float((a.double() - b.double()).abs().max())


def _gaps(
    readings: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]], timed: bool
) -> Iterator[tuple[float, float]]:
    """For each way to read a layer, its largest difference and size over all pairs."""
    kinds = set.intersection(*(set(side) for pair in readings for side in pair))
    for kind in kinds - ({TIMELESS} if timed else set()):
        pairs = [(a[kind], b[kind]) for a, b in readings]
        if all(a.shape == b.shape for a, b in pairs):
            sizes = [float(a.abs().max()) for a, _ in pairs if a.numel()]
            yield max(largest_gap(a, b) for a, b in pairs), max(sizes, default=0.0)


def _layers(module: str, calls: list[Layer], steps: int, batch: int) -> dict[str, Layer]:
    """The calls of a module as one layer with time in front where it is called once a step."""
    if len(calls) == 1:
        return {module: calls[0]}
    shapes = {call.output.shape for call in calls}
    if len(calls) == steps and len(shapes) == 1 and calls[0].output.shape[:1] == (batch,):
        inputs = [call.input for call in calls if call.input is not None]
        alike = len(inputs) == steps and len({x.shape for x in inputs}) == 1
        together = torch.stack(inputs) if alike else None
        return {module: Layer(module, together, torch.stack([call.output for call in calls]))}
    return {f"{module} (call {n})": call for n, call in enumerate(calls, 1)}


class _Recorder(TorchDispatchMode):
    """Keeps what every module does, and watches for norms that use the batch's statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[Layer]] = {}
        self.batch_statistics: list[str] = []
        self._running: list[tuple[str, Tensor | None]] = []

    @contextmanager
    def watching(self, network: nn.Module, neurons: Iterable[str]) -> Iterator[None]:
        hooks = []
        # What happens inside a neuron, such as a surrogate, is its own business.
        inside = tuple(f"{name}." for name in neurons)
        for name, module in network.named_modules():
            if name and not name.startswith(inside):
                hooks.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                hooks.append(module.register_forward_hook(self._leave))
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str) -> Any:
        def enter(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            x = first_tensor((*inputs, *named.values()))
            self._running.append((name, None if x is None else x.detach().clone()))

        return enter

    def _leave(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        name, x = self._running.pop()
        found = first_tensor(output)
        if found is not None:
            layer = Layer(name, x, found.detach().clone())
            self.calls.setdefault(name, []).append(layer)

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if "batch_norm" in func.name():
            names = [argument.name for argument in func._schema.arguments]
            given = dict(zip(names, args, strict=False)) | (kwargs or {})
            if given.get("training"):
                self.batch_statistics.append(self._running[-1][0] if self._running else OUTPUT)
        return func(*args, **(kwargs or {}))
