r"""Spiking patch splitting: a convolutional stem that turns images into spike patches."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.layers import SpikingConv
from spikformer.nn.neurons import NeuronFactory


class SpikingPatchSplitting(nn.Module):
    r"""SPS (Spikformer, eq. 10): stages of $\mathrm{MP}(\mathrm{SN}(\mathrm{BN}(\mathrm{Conv}_{3\times3}(X))))$.

    The channels double from stage to stage, up to `dim`. The pool comes after the neuron, so that
    spikes are pooled: pooling currents instead is another network (Spikformer-CML).

    Args:
        in_chans: Channels of the images.
        dim: Width $D$ after the last stage, a multiple of $2^{stages-1}$.
        pools: For each stage, whether a 3 x 3 max-pool of stride 2 ends it.
        neuron: Builds each stage's neuron.

    Raises:
        ConfigError: when there is no stage, or they do not divide `dim`.
    """

    def __init__(
        self, in_chans: int, dim: int, *, pools: Sequence[bool], neuron: NeuronFactory
    ) -> None:
        super().__init__()
        last = len(pools) - 1
        if last < 0:
            raise ConfigError("pools must name at least one stage, got none")
        if dim % 2**last:
            raise ConfigError(
                f"dim must be a multiple of 2^(stages - 1) = {2**last}, got dim={dim}"
            )
        widths = [in_chans, *(dim // 2 ** (last - stage) for stage in range(last + 1))]
        self.widths = tuple(widths[1:])
        self.strides = tuple(2 ** sum(pools[: stage + 1]) for stage in range(last + 1))
        self.stages = nn.ModuleList(
            SpikingConv(before, after, 3, neuron=neuron) for before, after in pairwise(widths)
        )
        self.pools = nn.ModuleList(
            nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity() for pool in pools
        )

    def forward(
        self, images: Float[Tensor, "t B C H W"], repeats: int = 1
    ) -> Float[Tensor, "T B D _ _"]:
        """Spikes of the last stage. Arguments as in `walk`."""
        *_, spikes = self.walk(images, repeats)
        return spikes

    def walk(
        self, images: Float[Tensor, "t B C H W"], repeats: int = 1
    ) -> Iterator[Float[Tensor, "T B _ _ _"]]:
        """Spikes after each stage, one after the other.

        Args:
            images: All steps, or the one step of a static image.
            repeats: $T$, when that one step is seen $T$ times.
        """
        x = images
        for stage, pool in zip(self.stages, self.pools, strict=True):
            spikes = stage(x, repeats)
            repeats = 1
            x = pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])
            yield x
