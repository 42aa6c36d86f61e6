"""What contenders share, made once: weights, images, engines, an exported graph."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikformer.bench.contenders import CONTENDERS, EXPORTERS, Materials, installed
from spikformer.bench.processes import sentence


def enliven(network: Any, images: Any) -> None:
    """Let a network that was never trained fire in eval mode too.

    Its norms get a bias of 0.5 and these images' statistics; without, no neuron reaches its
    threshold.
    """
    import torch
    from torch import nn

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.constant_(norm.bias, 0.5)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()


def prepare(
    materials: Materials,
    calibration: np.ndarray,
    names: Sequence[str],
    batches: Sequence[int],
    say: Callable[[str], None],
) -> Mapping[str, str]:
    """Compile engines, and export the graph, as far as the named contenders need them.

    Args:
        calibration: Images that decide paths and scales; others than those that are timed.

    Returns:
        Who cannot take part, and why.
    """
    import torch

    from spikformer.models import load_model

    model = load_model(materials.weights, **materials.parts).eval()
    images = materials.read_images()
    absent: dict[str, str] = {}
    for name in names:
        need, _, precision = CONTENDERS[name].needs.partition(" ")
        try:
            if need == "engine":
                say(f"{name}: compiling for calibration on {len(calibration)} images")
                from spikformer.engine import compile as compile_engine

                example: Any = torch.from_numpy(calibration)
                wanted: Any = precision
                engine = compile_engine(model, example, wanted, threads=materials.threads)
                engine.save(materials.engine(precision))
            elif need == "graph":
                say(f"{name}: exporting")
                _export(model, images, batches, materials)
        except Exception as error:  # exporters raise many kinds
            absent[name] = sentence(error)
    return absent


def _export(model: Any, images: np.ndarray, batches: Sequence[int], materials: Materials) -> None:
    for package in EXPORTERS:
        installed(package)
    from spikformer.bench.onnx import write_graph

    for batch in batches:
        write_graph(model, images[:batch], materials.graph(batch))


def write_images(images: np.ndarray, path: Path) -> Path:
    np.save(path, np.ascontiguousarray(images, np.float32))
    return path
