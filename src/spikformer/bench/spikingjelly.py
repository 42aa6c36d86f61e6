"""SpikingJelly's Spikformer with our weights, as far as its layout goes."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from spikformer.bench.contenders import Materials
from spikformer.errors import ConfigError
from spikformer.models import load_model

PATCHES = {(False, False, True, True): 4, (True, True, True, True): 16}
"""Our pools to its patch size."""
FIXED = {"scale": 0.125, "learnable_scale": False, "neuron": "lif", "attention": "ssa"}
"""What its file fixes."""
CHECKED = 32
"""Images on which it is tried with its pools moved."""


class Stateless(nn.Module):
    """SpikingJelly's network as its users run it: reset, all steps, mean over time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.functional: Any = import_module("spikingjelly.activation_based.functional")

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self.network.compile(*args, **kwargs)

    def forward(self, images: Tensor) -> Tensor:
        self.functional.reset_net(self.network)
        return self.network(images).mean(0)


def carry_over(materials: Materials) -> Stateless:
    """Its network with our weights, in eval mode and multi-step, its pools where it has them.

    Raises:
        ConfigError: when it has no such network.
    """
    model: Any = load_model(materials.weights, **materials.parts).eval()
    arguments = model.arguments
    other = [k for k, v in FIXED.items() if arguments.get(k, v) != v]
    pools = tuple(arguments["pools"])
    shape = materials.read_images().shape[1:]
    if other or pools not in PATCHES or arguments.get("qk_pool") or len(shape) != 3:
        what = ", ".join(other) or "frames or pools that it has not"
        raise ConfigError(f"SpikingJelly's Spikformer cannot be given this network: {what}")
    module: Any = import_module("spikingjelly.activation_based.model.spikformer")
    network = module.Spikformer(
        T=model.steps,
        in_channels=shape[0],
        img_size_h=shape[1],
        img_size_w=shape[2],
        patch_size=PATCHES[pools],
        num_classes=model.num_classes,
        embed_dims=arguments["dim"],
        num_heads=arguments["heads"],
        mlp_ratio=arguments.get("mlp_ratio", 4.0),
        depths=arguments["depth"],
    )
    give_weights(model, network)
    return Stateless(network).eval()


def give_weights(model: nn.Module, network: nn.Module) -> None:
    """Give `network` our weights: both list their layers in the order they run.

    It has no biases in front of norms: a norm that subtracts less by as much does the same.

    Raises:
        ConfigError: when they do not fit.
    """
    state = dict(model.state_dict())
    for key in [key for key in state if key.endswith(".conv.bias")]:
        mean = key.replace(".conv.bias", ".norm.running_mean")
        state[mean] = state[mean] - state.pop(key)
    like = network.state_dict()
    sizes = [v.numel() for v in state.values()], [v.numel() for v in like.values()]
    if sizes[0] != sizes[1]:
        raise ConfigError("SpikingJelly's Spikformer has other layers than this network")
    pairs = zip(like.items(), state.values(), strict=True)
    network.load_state_dict({key: value.view_as(there) for (key, there), value in pairs})


def move_pools(network: Any) -> None:
    """Put SpikingJelly's pools behind its neurons, where the authors and we have them."""
    layer: Any = import_module("spikingjelly.activation_based.layer")
    stages = network.patch_embed.stages
    for index, stage in enumerate(stages):
        *rest, last = stage.conv_bn.block
        if isinstance(last, nn.MaxPool2d):
            stage.conv_bn.block = layer.SeqToANNContainer(*rest)
            stages[index] = nn.Sequential(stage, layer.SeqToANNContainer(last))


def remark(materials: Materials) -> str:
    """What its answers mean: how near they are once its pools are where ours are."""
    images = torch.from_numpy(materials.read_images()[:CHECKED])
    ours: Any = load_model(materials.weights, **materials.parts).eval()
    theirs = carry_over(materials)
    move_pools(theirs.network)
    with torch.inference_mode():
        one, two = ours(images), theirs.eval()(images)
    share = (one.argmax(-1) == two.argmax(-1)).double().mean().item()
    return (
        "it pools currents in front of its neurons, the authors and we pool spikes behind them, so "
        "that it computes another function of these weights; it is timed as it is. With its pools "
        f"moved it says the same class as we for {share:.0%} of {len(images)} images"
    )
