"""Does the operation `lif` cost more than plain PyTorch, eager and under the compiler?

Four blocks of 1 x 1 convolution, batch norm and LIF, in bfloat16 autocast. The competitors are our
layer and the same mathematics written out in plain PyTorch, whose gradient autograd derives. Before
anything is timed, spikes and gradients are compared (`check` says how closely); then all run in turn,
and medians are compared.

    python benchmarks/operations.py [--batch 32] [--width 384] [--rounds 15]
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from spikformer.nn import LIF, SpikingConv
from spikformer.training.environment import hardware, versions

STEPS = 4


class PlainStep(torch.autograd.Function):
    """The step function with the derivative of sigmoid(4 x) in the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(4 * x)
        return grads[0] * 4 * s * (1 - s)


class PlainLIF(nn.Module):
    """LIF as one writes it by hand: float32 membrane, reset detached."""

    def forward(self, current: Tensor) -> Tensor:
        v = torch.zeros_like(current[0], dtype=torch.float32)
        spikes = []
        for x in current:
            u = v + (x.float() - v) / 2
            s = PlainStep.apply(u - 1)
            v = u * (1 - s.detach())
            spikes.append(s.to(current.dtype))
        return torch.stack(spikes)


@dataclass(frozen=True)
class Setting:
    """What to time.

    Args:
        batch: Images.
        width: Channels.
        side: Tokens along a side.
        rounds: Turns of every competitor.
    """

    batch: int = 32
    width: int = 384
    side: int = 8
    rounds: int = 15


def blocks(neuron: Callable[..., nn.Module], width: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [SpikingConv(width, width, neuron=lambda threshold: neuron()) for _ in range(4)]  # noqa: ARG005
    for layer in layers:
        nn.init.constant_(layer.norm.bias, 1.2)  # fires in eval mode too
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def infer(network: Callable[[Tensor], Tensor], spikes: Tensor) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return network(spikes)


def train(network: Callable[[Tensor], Tensor], spikes: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out = network(spikes)
    out.float().mean().backward()
    return out


def medians(contenders: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            begun = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - begun) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def check(networks: dict[str, nn.Module], compiled: bool, spikes: Tensor) -> None:
    """Stop when spikes differ, or gradients: eager in bfloat16, compiled in float32.

    Eager spikes must be equal. Two compiled graphs keep different intermediates, and so round
    apart: there 1 spike in 10,000 may differ. Gradients pass through four norms, and are compared
    by their direction.
    """
    outputs, gradients = [], []
    for network in (copy.deepcopy(n) for n in networks.values()):
        with torch.autocast("cpu", torch.bfloat16, enabled=not compiled):
            out = (torch.compile(network) if compiled else network)(spikes)
        outputs.append(out.detach())
        out.float().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]).double())
    flipped = (outputs[0] != outputs[1]).float().mean().item()
    cosine = torch.cosine_similarity(*gradients, dim=0).item()
    if flipped > (1e-4 if compiled else 0) or cosine < 0.999:
        raise SystemExit(
            f"{flipped:.2%} of the spikes differ, gradients have cosine {cosine}; nothing is timed"
        )


def main(setting: Setting) -> None:
    console = Console(width=160)
    console.print(f"{hardware()}; torch {versions()['torch']}; {setting}")
    shape = (STEPS * setting.batch, setting.width, setting.side, setting.side)
    spikes = (torch.rand(shape) < 0.2).float().contiguous(memory_format=torch.channels_last)
    spikes = spikes.unflatten(0, (STEPS, setting.batch))
    table = Table("", "plain ms", "ours ms", "plain / ours", box=None)
    for kind, run in (("infer", infer), ("train", train)):
        for compiled in (False, True):
            networks = {
                "plain": blocks(PlainLIF, setting.width),
                "ours": blocks(LIF, setting.width),
            }
            calls: dict[str, Callable[[], Tensor]] = {}
            for name, network in networks.items():
                network.train(kind == "train")
                called = torch.compile(network) if compiled else network
                calls[name] = lambda called=called, run=run: run(called, spikes)
            check(networks, compiled, spikes)
            found = medians(calls, setting.rounds)
            table.add_row(
                f"{kind}, {'compiled' if compiled else 'eager'}",
                f"{found['plain']:.1f}",
                f"{found['ours']:.1f}",
                f"{found['plain'] / found['ours']:.2f}",
            )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Setting))
