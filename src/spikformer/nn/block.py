r"""The encoder block: attention and MLP, each added to the counts that came in."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.layers import SpikingConv
from spikformer.nn.neurons import NeuronFactory


class EncoderBlock(nn.Module):
    r"""$X' = \mathrm{SSA}(X) + X$ and $X'' = \mathrm{MLP}(X') + X'$ (Spikformer, eq. 7-8).

    The stream holds counts, not spikes: each block adds up to 2 to every element.

    Args:
        attention: A module from [T, B, D, H, W] to spikes of that shape.
        dim: Width $D$.
        mlp_ratio: Hidden width of the MLP over `dim`.
        neuron: Builds the MLP's neurons.
        drop_path: Probability of skipping a branch for a sample, in training.
    """

    def __init__(
        self,
        attention: nn.Module,
        dim: int,
        *,
        mlp_ratio: float = 4.0,
        neuron: NeuronFactory,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = SpikingMLP(dim, round(dim * mlp_ratio), neuron=neuron)
        self.drop_path = DropPath(drop_path)

    def forward(self, counts: Float[Tensor, "T B D H W"]) -> Float[Tensor, "T B D H W"]:
        counts = counts + self.drop_path(self.attention(counts))
        return counts + self.drop_path(self.mlp(counts))


class SpikingMLP(nn.Module):
    """Two spiking linear layers over the channels of each token (Spikformer, app. C.1)."""

    def __init__(self, dim: int, hidden: int, *, neuron: NeuronFactory) -> None:
        super().__init__()
        self.fc1 = SpikingConv(dim, hidden, bias=True, neuron=neuron)
        self.fc2 = SpikingConv(hidden, dim, bias=True, neuron=neuron)

    def forward(self, counts: Float[Tensor, "T B D H W"]) -> Float[Tensor, "T B D H W"]:
        return self.fc2(self.fc1(counts))


class DropPath(nn.Module):
    """Skips a residual branch for a sample in all its steps at once, in training.

    What is kept grows by 1/(1 - rate), so that its mean stays; Huang et al., ECCV 2016.

    Raises:
        ConfigError: when `rate` is not in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ConfigError(f"drop_path must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, spikes: Float[Tensor, "T B *rest"]) -> Float[Tensor, "T B *rest"]:
        if self.rate == 0 or not self.training:
            return spikes
        shape = 1, spikes.shape[1], *[1] * (spikes.dim() - 2)
        kept = torch.rand(shape, device=spikes.device) >= self.rate
        return spikes * kept.to(spikes.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
