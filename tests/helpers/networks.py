"""Small networks in which every neuron layer has something to say."""

from typing import Any

import torch
from torch import Tensor, nn

from spikformer import Spikformer
from spikformer.nn import ATTENTIONS, NEURONS, BatchNorm, NeuronFactory, SpikingConv

TINY: dict[str, Any] = {
    "depth": 2,
    "dim": 16,
    "heads": 2,
    "in_chans": 3,
    "num_classes": 5,
    "steps": 4,
    "scale": 1.0,
    "pools": (True, True),
}
COMBINATIONS = [(neuron, "ssa") for neuron in NEURONS] + [
    ("lif", attention) for attention in ATTENTIONS if attention != "ssa"
]
"""Every neuron and every attention, each at least once."""
SILENT, SATURATED = 0.005, 0.95
"""Rates between which a layer tells networks apart, in spikes per neuron per step.

Most layers of a lively network lie at 10-40 %, products of attention at 1-90 %.
"""


def tiny(seed: int = 0, *, enlivened: bool = True, **overrides: Any) -> Spikformer:
    """A lively network of two stages and two blocks for 8 x 8 images, in float64 and eval mode."""
    torch.manual_seed(seed)
    arguments = TINY | overrides
    model = Spikformer(**arguments).double().eval()
    if not enlivened:
        return model
    return enliven(model, torch.rand(4, arguments["in_chans"], 8, 8, dtype=torch.float64))


def enliven(model: Any, images: Tensor, products: float = 2.0) -> Any:
    """Give every norm random statistics, weights and biases near those that fit its input.

    As they are built, networks hardly fire in eval mode, and equal silence proves nothing.

    Args:
        products: Largest bias of what attention multiplies. Products of three spikes are rare,
            and small scales need more of them. But where the values of all tokens fire, their
            mean under a softmax is 1, exactly at a threshold: there all rounding shows.
    """

    def fit(norm: BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        deviation = x.std((0, 2, 3)) + 0.1
        norm.running_mean.copy_(x.mean((0, 2, 3)) + 0.2 * deviation * torch.randn_like(deviation))
        norm.running_var.copy_(deviation.square() * torch.empty_like(deviation).uniform_(0.5, 2))
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, products if norm in multiplied else 2.0)

    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    multiplied = {
        module
        for name, module in model.named_modules()
        if module in norms and ".attention." in name and ".proj." not in name
    }
    hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return model


def layers(model: nn.Module) -> list[tuple[str, SpikingConv]]:
    """The layers of convolution, norm and neuron, by name."""
    return [(n, module) for n, module in model.named_modules() if isinstance(module, SpikingConv)]


class Recorder:
    """Builds the neurons of a network, and afterwards knows what each of them last did."""

    def __init__(self, neuron: str | NeuronFactory = "lif") -> None:
        self.build = NEURONS[neuron] if isinstance(neuron, str) else neuron
        self.spikes: list[Tensor] = []

    def __call__(self, *, threshold: float) -> nn.Module:
        neuron = self.build(threshold=threshold)
        index = len(self.spikes)
        self.spikes.append(torch.empty(0))

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.spikes[index] = output.detach()

        neuron.register_forward_hook(keep)
        return neuron

    def stop(self, model: nn.Module) -> None:
        """Leave `model` alone from now on, as compilers want it."""
        for module in model.modules():
            module._forward_hooks.clear()

    @property
    def rates(self) -> list[float]:
        """Spikes per neuron per step of each layer, in the order in which they were built."""
        return [float(spikes.double().mean()) for spikes in self.spikes]

    def assert_lively(self) -> None:
        """Every layer fired, and none all the time."""
        assert self.rates
        assert all(SILENT < rate < SATURATED for rate in self.rates), self.rates
