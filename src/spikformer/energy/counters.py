"""What counts each operation of PyTorch, and of ours."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import spikformer.kernels  # noqa: F401 declares the operations that are named below

if TYPE_CHECKING:
    from spikformer.energy.watch import Watch


def _convolution(
    watch: "Watch",
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
) -> None:
    watch.row("map", x.shape[0], x, weight).convolve(
        x, weight, bias, out, stride, padding, dilation, transposed, groups
    )


def _matrices(watch: "Watch", out: Tensor, a: Tensor, b: Tensor, **_: Any) -> None:
    _product(watch, out, a, b, bias=0)


def _matrices_and_bias(
    watch: "Watch", out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **_: Any
) -> None:
    _product(watch, out, a, b, bias=bias.numel() if watch.is_weight(bias) else 0)


def _matrix_and_vector(watch: "Watch", out: Tensor, a: Tensor, b: Tensor, **_: Any) -> None:
    _product(watch, out[:, None], a, b[:, None], bias=0)


def _product(watch: "Watch", out: Tensor, a: Tensor, b: Tensor, bias: int) -> None:
    if watch.is_weight(b):
        x, given, weight, fan_out = a, a, b, b.shape[-1]
    elif watch.is_weight(a):
        x, given, weight, fan_out = b.mT, b, a, a.shape[-2]
    else:
        watch.multiply(a, b, out)
        return
    rows = x.numel() // x.shape[-1]
    watch.row("map", rows, given, weight).map(x, weight.numel(), bias, fan_out, out)


def _mask(watch: "Watch", out: Tensor, a: Any, b: Any) -> None:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        watch.mask(a, b, out)


def _spike_attention(watch: "Watch", _out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.shape[-1] < q.shape[-2]:
        first, second = (k.mT, v), (q, k.mT @ v)
    else:
        first, second = (q, k.mT), (q @ k.mT, v)
    watch.row("attention", 0, q).attend(first, second, q, k, v)


def _fused_attention(
    watch: "Watch", _out: Any, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any
) -> None:
    similar = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1)
    watch.row("attention", 0, q).attend((q, k.mT), (similar, v), q, k, v)


def _neuron(watch: "Watch", _out: Any, current: Tensor, *_: Any, **__: Any) -> None:
    watch.row("neuron", 0, current).update(current)


aten, ours = torch.ops.aten, torch.ops.spikformer
COUNTERS: Mapping[Any, Callable[..., None]] = {
    aten.convolution: _convolution,
    aten.mm: _matrices,
    aten.bmm: _matrices,
    aten.addmm: _matrices_and_bias,
    aten.baddbmm: _matrices_and_bias,
    aten.mv: _matrix_and_vector,
    aten.mul: _mask,
    aten.mul_: _mask,
    aten.bitwise_and: _mask,
    aten.logical_and: _mask,
    aten._scaled_dot_product_flash_attention: _fused_attention,
    aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
    aten._scaled_dot_product_efficient_attention: _fused_attention,
    aten._scaled_dot_product_cudnn_attention: _fused_attention,
    ours.spike_attention: _spike_attention,
    ours.if_: _neuron,
    ours.lif: _neuron,
    ours.plif: _neuron,
}
TIME_BEGINS = {ours.if_, ours.lif, ours.plif, aten.expand, aten.repeat, aten.stack} | {
    getattr(aten, name) for name in ("gt", "ge", "lt", "le", "heaviside", "repeat_interleave")
}
"""What makes a tensor per step, or spikes, of what was the same for all steps."""
NO_MAPS = {"embedding", "index_select", "gather", "copy_", "_to_copy"}
"""Operations on whole matrices of weights that multiply nothing."""
