"""Who takes part: each builds a network from the same weights, in a process of its own."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spikformer.bench.processes import forget_peak, resident, trim
from spikformer.errors import ConfigError

BASELINE = "pytorch eager float32"
WARM_RUNS = 2
EXPORTERS = ("onnxruntime", "onnx", "onnxscript")
HOW_TO_INSTALL = {
    "spikingjelly": "pip install 'spikformer[bench]'",
    **dict.fromkeys(EXPORTERS, f"pip install {' '.join(EXPORTERS)}"),
}


@dataclass(frozen=True)
class Materials:
    """What contenders work with: files, since their processes share nothing else.

    Args:
        weights: Weights that describe their model.
        parts: A neuron or attention of one's own, as `load_model` takes them.
        images: `.npy` of what the network is shown, float32.
        folder: Where engines and exported graphs lie.
        threads: Of each contender.
    """

    weights: Path
    parts: Mapping[str, Any]
    images: Path
    folder: Path
    threads: int

    def engine(self, precision: str) -> Path:
        return self.folder / f"{precision}.engine.safetensors"

    def graph(self, batch: int) -> Path:
        return self.folder / f"batch{batch}.onnx"

    def read_images(self) -> np.ndarray:
        return np.load(self.images)


class Built(NamedTuple):
    """A network ready to answer.

    Args:
        run: From images to logits, both arrays.
        remark: Tells what the reader must know of it; asked for when all was measured.
    """

    run: Callable[[np.ndarray], np.ndarray]
    remark: Callable[[], str] = str


class Player:
    """A contender in its process; its methods are asked for by name.

    Args:
        name: Key of `CONTENDERS`.
        batch: Images at once.
    """

    def __init__(self, name: str, materials: Materials, batch: int) -> None:
        self.images = materials.read_images()
        self.batch = batch
        self.next = 0
        self.built = CONTENDERS[name].build(materials, batch)
        trim()
        self.start_mib = resident("VmRSS")

    def first(self) -> None:
        """Answer once; the asker knows since when it waits."""
        self.built.run(self.images[: self.batch])

    def answers(self, count: int) -> np.ndarray:
        """Logits of the first images, `batch` at a time."""
        parts = range(0, count, self.batch)
        return np.concatenate([self.built.run(self.images[i : i + self.batch]) for i in parts])

    def warm(self) -> None:
        """From here on memory is measured."""
        for _ in range(WARM_RUNS):
            self.turn(1)
        forget_peak()

    def turn(self, runs: int) -> list[float]:
        """Seconds of each run, on images one after the other: the same ones for all contenders.

        The caches are cold in the first, which is not timed.
        """
        took = []
        for _ in range(runs + 1):
            images = self.images[self.next : self.next + self.batch]
            self.next = (self.next + self.batch) % (len(self.images) - self.batch + 1)
            begun = time.perf_counter()
            self.built.run(images)
            took.append(time.perf_counter() - begun)
        return took[-runs:]

    def facts(self) -> dict[str, Any]:
        """Memory in MiB, whether torch is in this process, and a remark."""
        peak = resident("VmHWM")
        return {
            "peak_mib": peak,
            "above_start_mib": peak - self.start_mib,
            "imports_torch": "torch" in sys.modules,
            "remark": self.built.remark(),
        }


class Contender(NamedTuple):
    """How one is built, and what it needs before.

    Args:
        build: In its own process, for batches of one size.
        needs: `engine float32`, `engine int8` or `graph`, made beforehand.
        compiled: Whether it compiles at its first answer, which is done before in a process that
            then ends: a compiler leaves half a gigabyte behind.
    """

    build: Callable[[Materials, int], Built]
    needs: str = ""
    compiled: bool = False


def _engine(precision: str, materials: Materials, _batch: int) -> Built:
    from spikformer.engine import load

    engine = load(materials.engine(precision), threads=materials.threads)
    return Built(engine)


def _pytorch(precision: str, how: str, materials: Materials, _batch: int) -> Built:
    import torch

    from spikformer.models import load_model

    torch.set_num_threads(materials.threads)
    network: Any = load_model(materials.weights, **materials.parts).eval()
    network = network.to(memory_format=torch.channels_last)
    if how == "compiled":
        network.compile(dynamic=False)
    return Built(_torch_run(network, precision))


def _spikingjelly(precision: str, materials: Materials, _batch: int) -> Built:
    import torch

    installed("spikingjelly")
    from spikformer.bench.spikingjelly import carry_over, remark

    torch.set_num_threads(materials.threads)
    network = carry_over(materials).to(memory_format=torch.channels_last)
    return Built(_torch_run(network, precision), partial(remark, materials))


def _torch_run(network: Any, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    def run(images: np.ndarray) -> np.ndarray:
        half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        with torch.inference_mode(), half:
            return network(torch.from_numpy(images)).float().numpy()

    return run


def _onnxruntime(materials: Materials, batch: int) -> Built:
    runtime = installed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = materials.threads
    path, providers = str(materials.graph(batch)), ["CPUExecutionProvider"]
    graph = runtime.InferenceSession(path, options, providers=providers)
    name = graph.get_inputs()[0].name
    return Built(lambda images: graph.run(None, {name: images})[0])


def _no_twin(_materials: Materials, _batch: int) -> Built:
    raise ConfigError(
        "there is no conventional network of equal accuracy to quantise: a spiking network's own "
        "thresholds are no operation of ONNX Runtime's int8"
    )


def installed(package: str) -> Any:
    """A package that only contenders need.

    Raises:
        ConfigError: when it is not there.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"{package} is not installed: {HOW_TO_INSTALL[package]}") from error


CONTENDERS: Mapping[str, Contender] = {
    "engine int8": Contender(partial(_engine, "int8"), "engine int8"),
    "engine float32": Contender(partial(_engine, "float32"), "engine float32"),
    BASELINE: Contender(partial(_pytorch, "float32", "eager")),
    "pytorch eager bf16": Contender(partial(_pytorch, "bf16", "eager")),
    "pytorch compiled float32": Contender(partial(_pytorch, "float32", "compiled"), compiled=True),
    "pytorch compiled bf16": Contender(partial(_pytorch, "bf16", "compiled"), compiled=True),
    "spikingjelly eager float32": Contender(partial(_spikingjelly, "float32")),
    "spikingjelly eager bf16": Contender(partial(_spikingjelly, "bf16")),
    "onnxruntime float32": Contender(_onnxruntime, "graph"),
    "onnxruntime int8": Contender(_no_twin),
}
"""By name: library, how, precision. bf16 is mixed precision (autocast)."""
