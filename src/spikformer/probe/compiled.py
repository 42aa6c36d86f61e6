"""A compiled engine as a network of modules, so that what watches modules can watch it."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.engine import Engine
from spikformer.export import Attention, Layer


class CompiledNetwork(nn.Module):
    """An engine whose neurons are submodules, by the names that they have in the model.

    It computes in float32 whatever it is given; each neuron's module returns what the engine's
    kernels made.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self._neurons: dict[str, str] = {}
        for operation in engine.plan.operations:
            if isinstance(operation, Layer | Attention):
                self._neurons[operation.output] = f"{operation.name}.neuron"
                _place(self, f"{operation.name}.neuron")

    def forward(self, frames: Float[Tensor, "B T C H W"]) -> Float[Tensor, "T B K"]:
        images = frames.float()
        values = self.engine.trace(images)
        for output, name in self._neurons.items():
            self.get_submodule(name)(values[output], frames.dtype)
        return torch.from_numpy(self.engine.forward_steps(images).copy()).to(frames.dtype)

    def __deepcopy__(self, _memo: Any) -> "CompiledNetwork":
        return CompiledNetwork(self.engine)  # it has no state, and its threads are one pool


class _Replayed(nn.Module):
    """A neuron whose currents nobody saw: no tensor goes in."""

    def forward(self, spikes: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(spikes).to(dtype)


def _place(root: nn.Module, name: str) -> None:
    """A module at a dotted name, and those on the way to it."""
    *way, last = name.split(".")
    for part in way:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, _Replayed())
