"""A map, a norm that knows about time, a neuron: the three parts of every spiking layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikformer.errors import ConfigError
from spikformer.nn.neurons import NeuronFactory


class SpikingConv(nn.Module):
    r"""Convolution, norm, neuron, step by step: $\mathrm{SN}(\mathrm{BN}(\mathrm{Conv}(X)))$.

    With `kernel_size=1` this is a linear map over the channels of each token.

    Args:
        in_channels: $C$ of the input.
        channels: $C'$ of the spikes.
        kernel_size: Odd; the padding keeps $H$ and $W$.
        bias: Whether the convolution has one. The norm cancels it; some checkpoints have it.
        neuron: Builds the neuron. None returns the norm's currents instead of spikes.
        threshold: The neuron's, in the unit of the current.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int = 1,
        *,
        bias: bool = False,
        neuron: NeuronFactory | None,
        threshold: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel_size, padding=kernel_size // 2, bias=bias
        )
        self.norm = BatchNorm(channels)
        self.neuron = nn.Identity() if neuron is None else neuron(threshold=threshold)

    def forward(
        self, x: Float[Tensor, "t B in H W"], repeats: int = 1
    ) -> Float[Tensor, "T B out H W"]:
        """Spikes of [T, B, C, H, W].

        Args:
            x: Input of all steps; or one step, when it repeats.
            repeats: $T$, when the one step of a static image is seen $T$ times: it is computed
                once, and the norm counts it $T$ times.
        """
        if repeats > 1 and not isinstance(self.norm, BatchNorm):
            raise ConfigError(
                "this norm cannot count a repeated image: share statistics over ranks with "
                "spikformer.nn.share_statistics, not by converting the norms"
            )
        current = self.conv(x.flatten(0, 1))
        current = self.norm(current, repeats) if repeats > 1 else self.norm(current)
        current = current.unflatten(0, (x.shape[0], -1))
        if repeats > 1:
            current = current.expand(repeats, *current.shape[1:])
        return self.neuron(current)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over [T B, C, H, W] that knows how often its input is repeated over time.

    Two things `torch.nn.BatchNorm2d` does not do. `repeats` copies of the input count in the
    running variance (its $n/(n-1)$) though they are never computed. And with `group` set, see
    `share_statistics`, training statistics are those of all ranks, on any backend and device.
    """

    group: dist.ProcessGroup | None = None
    frozen: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "group": None}  # groups can be neither copied nor stored

    def forward(
        self, input: Float[Tensor, "TB C H W"], repeats: int = 1
    ) -> Float[Tensor, "TB C H W"]:
        if not self.training or (self.group is None and repeats == 1 and not self.frozen):
            return super().forward(input)
        if self.group is not None:
            normed, mean, variance, count = self._normalise_over_ranks(input)
        else:
            mean, variance = self.weight.new_zeros(2, self.num_features).unbind()
            normed = F.batch_norm(
                input, mean, variance, self.weight, self.bias, True, 1.0, self.eps
            )
            count = input.numel() // input.shape[1]
            variance = variance * ((count - 1) / count)
        if not self.frozen:
            self._track(mean, variance, count * repeats)
        return normed

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Any) -> None:
        unbiased = variance * (count / (count - 1))
        for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
            assert running is not None
            assert self.momentum is not None
            running.lerp_(now.to(running.dtype), self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)

    def _normalise_over_ranks(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Two passes, so that the variance is a sum of squares and never a difference of large ones.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        here = wide.new_full((1,), x.numel() / x.shape[1])
        total = _SumOverRanks.apply(torch.cat([wide.sum((0, 2, 3)), here]), self.group)
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centred = wide - mean[:, None, None]
        variance = _SumOverRanks.apply(centred.square().sum((0, 2, 3)), self.group) / count
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normed = centred * scale[:, None, None] + self.bias[:, None, None]
        return normed.to(x.dtype), mean, variance, count


class _SumOverRanks(torch.autograd.Function):
    """The sum over all ranks, whose gradient is again the sum over all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


def share_statistics(
    model: nn.Module, group: dist.ProcessGroup | None = None, *, share: bool = True
) -> None:
    """Let all norms of a model train on the statistics of every rank.

    The ranks may hold different numbers of samples. `torch.nn.SyncBatchNorm` refuses CPUs and
    does not know of repeated images. A copy of the model shares nothing until it is told to.

    Args:
        group: The ranks; None for all.
        share: False gives every rank its own statistics again.

    Raises:
        ConfigError: when there are no ranks.
    """
    if share and not dist.is_initialized():
        raise ConfigError(
            "statistics are shared by ranks, and torch.distributed is not initialised"
        )
    for norm in _norms(model):
        norm.group = (group or dist.group.WORLD) if share else None


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Leave running statistics alone, while batches still norm themselves.

    Gradient checkpointing runs a layer twice for one step; only one of the two may count.
    """
    norms = list(_norms(model))
    for norm in norms:
        norm.frozen = True
    try:
        yield
    finally:
        for norm in norms:
            norm.frozen = False


def _norms(model: nn.Module) -> Iterator[BatchNorm]:
    return (module for module in model.modules() if isinstance(module, BatchNorm))
