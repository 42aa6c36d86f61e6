"""A network whose arithmetic is exact, so that its spikes are the same however they are computed.

Weights are 0, +-1/2 and +-1, norms scale by powers of two, and neurons halve: every number is a
small multiple of 1/32, which bfloat16 holds wherever it is used, and very many potentials lie
exactly on the threshold, where any rounding would show.
"""

import torch

from helpers.networks import Recorder
from spikformer import Spikformer
from spikformer.nn import BatchNorm

T, B = 4, 6


def choose(like, values):
    values = torch.tensor(values, dtype=like.dtype)
    return values[torch.randint(len(values), like.shape)]


def exact(neuron="lif", dtype=torch.float64):
    """The network in `dtype`, and what its neurons did.

    Args:
        neuron: A name, or what a layer builds its neurons with; then numbers are exact up to them.
    """
    torch.manual_seed(2)
    recorder = Recorder(neuron)
    model = Spikformer(2, 16, 2, num_classes=8, pools=(True, True), scale=0.25, neuron=recorder).to(
        dtype
    )
    strong = 1.0 if neuron != "if" else 0.0  # what does not leak needs less to fire
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                values = [0, 0, 0, -1, -0.5, 0.5, 0.5, 1]
                module.weight.copy_(choose(module.weight, values))
                if module.bias is not None:
                    module.bias.copy_(choose(module.bias, [-0.5, 0, 0.5]))
            if isinstance(module, BatchNorm):
                module.eps = 0.0
                module.running_var.copy_(choose(module.bias, [1, 4]))
                module.running_mean.copy_(choose(module.bias, [-0.5, 0, 0.5, 1]))
                module.weight.copy_(module.running_var.sqrt() * choose(module.bias, [0.5, 1]))
                module.bias.copy_(choose(module.bias, [0, 0.5, 1, 1.5])).add_(strong)
        model.head.weight.zero_()  # two features to a class: few enough bits for the logits
        for k in range(8):
            model.head.weight[k, 2 * k], model.head.weight[k, 2 * k + 1] = 0.5, -0.5
        model.head.bias.copy_(choose(model.head.bias, [-0.5, 0, 0.5]))
    return model.eval(), recorder


def frames(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, (B, T, 3, 8, 8), generator=generator).to(dtype)
