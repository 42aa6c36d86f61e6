"""Our network as a graph of plain operations, for runtimes that do not know ours."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikformer.kernels.if_ import reference as if_reference
from spikformer.kernels.lif import reference as lif_reference
from spikformer.kernels.plif import reference as plif_reference
from spikformer.kernels.spike_attention import reference as attention_reference

OPSET = 18
PLAIN = {
    "if_": if_reference.forward,
    "lif": lif_reference.forward,
    "plif": plif_reference.forward,
    "spike_attention": attention_reference.forward,
}
"""Operations of ours to what they are in plain PyTorch."""


def write_graph(model: torch.nn.Module, images: np.ndarray, path: Path) -> None:
    """Write a model in eval mode as ONNX, in float32, for batches of the shape of `images`.

    Raises:
        ImportError: when onnx or onnxscript is not installed.
        Exception: whatever the exporter raised.
    """
    example = torch.from_numpy(images)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own future
        exported = torch.export.export(model, (example,))
        table: Any = torch.export.default_decompositions()
        for name, plain in PLAIN.items():
            table[getattr(torch.ops.spikformer, name).default] = plain
        program: Any = torch.onnx.export(
            exported.run_decompositions(table),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
        program.save(str(path))
