"""See every operation of a network while it runs, whoever wrote it."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import spikformer.kernels  # noqa: F401 declares the operations that are named below
from spikformer.energy.operands import kind_of
from spikformer.energy.operations import Operation
from spikformer.nn.recognition import named_neurons

OFTEN = math.inf
"""Instances of what cannot have run once for all steps."""


class _Product(NamedTuple):
    """Of activations, a [..., m, k] by b [..., k, n]."""

    a: Tensor
    b: Tensor
    out: Tensor


@dataclass
class _Call:
    """A module while it runs.

    Args:
        name: In its model.
        number: How many operations of each role it has begun.
        product: One that may turn out to be half an attention.
        masks: Products element by element, which are a neuron's own if this is one.
        busy: Whether anything that is counted ran in it.
    """

    name: str
    number: dict[str, int] = field(default_factory=dict)
    product: _Product | None = None
    masks: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    busy: bool = False


class Watch(TorchDispatchMode):
    """Counts the operations of a model's forward passes into `operations`, first seen first.

    A weight is told from an activation by where it comes from: what parameters and buffers alone
    give, such as a norm folded into a convolution, is one. Memory is that of one forward pass.

    A neuron is told by its name or class, or by the spikes that it makes.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.samples = 0
        self.operations: dict[tuple[str, str, int], Operation] = {}
        self._neurons = named_neurons(model)
        self._calls = [_Call("")]
        self._weights: set[int] = set()
        self._held: list[Tensor] = []
        self._instances: dict[tuple[str, str, int], float] = {}

    @contextmanager
    def forward_pass(self, samples: int, steps: int) -> Iterator[None]:
        """One forward pass, of so many samples and steps, runs in this block."""
        self._calls, self._instances = [_Call("")], {}
        self._held = [*self.model.parameters(), *self.model.buffers()]
        self._weights = {_place(x) for x in self._held if x.numel()}
        hooks = [hook for name, m in self.model.named_modules() for hook in self._hooks(name, m)]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self._held, self._calls = [], [_Call("")]
        self.samples += samples
        # What ran once a sample before anything ran once a step is shared by the steps.
        for key, instances in self._instances.items():
            if steps == 1 or instances != samples:
                break
            self.operations[key].shared = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        count = COUNTERS.get(func.overloadpacket)
        if count is not None:
            count(self, out, *args, **kwargs)
        tensors = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
        if tensors and all(self.is_weight(x) for x in tensors):
            made = [x for x in tree_leaves(out) if isinstance(x, Tensor) and x.numel()]
            self._held += made  # or another tensor would take their place in memory
            self._weights.update(_place(x) for x in made)
        return out

    def row(self, role: str, instances: float = OFTEN) -> Operation:
        """The row of what the running module does next, on so many samples times steps."""
        call = self._calls[-1]
        call.busy = True
        number = call.number.get(role, 0)
        call.number[role] = number + 1
        key = (call.name, role, number)
        self._instances[key] = self._instances.get(key, 0) + instances
        if key not in self.operations:
            self.operations[key] = Operation(call.name, role)  # pyright: ignore[reportArgumentType]
        return self.operations[key]

    def is_weight(self, x: Tensor) -> bool:
        return x.numel() > 0 and _place(x) in self._weights

    def multiply(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """A product of activations: half an attention, if the one before it is the other half."""
        call = self._calls[-1]
        second, first = _Product(a, b, out), call.product
        call.product = None
        if first is None or (roles := _attention(first, second)) is None:
            self._flush(first)
            call.product = second
        else:
            self.row("attention").attend(first[:2], second[:2], *roles)

    def mask(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """A product element by element, if it is one of activations and spikes are in it."""
        if min(a.dim(), b.dim()) < 2 or self.is_weight(a) or self.is_weight(b):
            return
        if "binary" in (kind_of(a), kind_of(b)):
            self._calls[-1].masks.append((a, b, out))

    def _flush(self, product: _Product | None) -> None:
        if product is not None:
            self.row("product").multiply(product.a, product.b)

    def _hooks(self, name: str, module: nn.Module) -> Iterator[Any]:
        def enter(_module: nn.Module, _args: Any) -> None:
            self._calls.append(_Call(name))

        def leave(_module: nn.Module, args: Any, out: Any) -> None:
            self._leave(args, out)

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave, always_call=True)

    def _leave(self, args: Any, out: Any) -> None:
        with torch._C._DisableTorchDispatch():
            call = self._calls[-1]
            self._flush(call.product)
            if not call.busy and (call.name in self._neurons or _fires(args, out)):
                self.row("neuron").update(args[0])
            else:
                for a, b, made in call.masks:
                    self.row("mask").mask(a, b, made)
            self._calls.pop()
            self._calls[-1].busy |= call.busy


def _convolution(
    watch: Watch,
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
    watch.row("map", x.shape[0]).convolve(
        x, weight, bias, out, stride, padding, dilation, transposed, groups
    )


def _matrices(watch: Watch, out: Tensor, a: Tensor, b: Tensor, **_: Any) -> None:
    _product(watch, out, a, b, bias=0)


def _matrices_and_bias(
    watch: Watch, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **_: Any
) -> None:
    _product(watch, out, a, b, bias=bias.numel() if watch.is_weight(bias) else 0)


def _product(watch: Watch, out: Tensor, a: Tensor, b: Tensor, bias: int) -> None:
    if watch.is_weight(b):
        x, weight = a, b
    elif watch.is_weight(a):
        x, weight = b.mT, a.mT
    else:
        watch.multiply(a, b, out)
        return
    rows = x.numel() // x.shape[-1]
    watch.row("map", rows).map(x, weight.numel(), bias, weight.shape[-1], out)


def _mask(watch: Watch, out: Tensor, a: Any, b: Any) -> None:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        watch.mask(a, b, out)


def _spike_attention(watch: Watch, _out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.shape[-1] < q.shape[-2]:
        first, second = (k.mT, v), (q, k.mT @ v)
    else:
        first, second = (q, k.mT), (q @ k.mT, v)
    watch.row("attention").attend(first, second, q, k, v)


def _fused_attention(
    watch: Watch, _out: Any, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any
) -> None:
    similar = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1)
    watch.row("attention").attend((q, k.mT), (similar, v), q, k, v)


def _neuron(watch: Watch, _out: Any, current: Tensor, *_: Any, **__: Any) -> None:
    watch.row("neuron").update(current)


aten = torch.ops.aten
COUNTERS: Mapping[Any, Callable[..., None]] = {
    aten.convolution: _convolution,
    aten.mm: _matrices,
    aten.bmm: _matrices,
    aten.addmm: _matrices_and_bias,
    aten.baddbmm: _matrices_and_bias,
    aten.mul: _mask,
    aten._scaled_dot_product_flash_attention: _fused_attention,
    aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
    aten._scaled_dot_product_efficient_attention: _fused_attention,
    torch.ops.spikformer.spike_attention: _spike_attention,
    torch.ops.spikformer.if_: _neuron,
    torch.ops.spikformer.lif: _neuron,
    torch.ops.spikformer.plif: _neuron,
}
"""What counts each operation of PyTorch, and of ours."""


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _attention(first: _Product, second: _Product) -> tuple[Tensor, Tensor, Tensor] | None:
    """Queries, keys and values [..., N, d], if the second product is of the first one's square.

    Tokens are taken to be no fewer than the width of a head.
    """
    made = first.out.shape
    if made[-1] != made[-2]:
        return None
    tokens_first = made[-1] >= first.a.shape[-1]
    left, right = (made == x.shape for x in second[:2])
    if left and right:
        left = kind_of(second.a) != "binary"
    if left:  # (Q K^T) V, or (V K^T) Q with tokens last
        if tokens_first:
            return first.a, first.b.mT, second.b
        return second.b.mT, first.b, first.a.mT
    if right:  # Q (K^T V), or V (K^T Q) with tokens last
        if tokens_first:
            return first.b.mT, first.a, second.a.mT
        return second.a, first.a.mT, first.b
    return None


def _fires(args: Any, out: Any) -> bool:
    """Whether a module turned what is no spike into spikes."""
    if not (args and isinstance(args[0], Tensor) and isinstance(out, Tensor)):
        return False
    same = args[0].shape == out.shape and out.is_floating_point() and out.numel() > 0
    return same and kind_of(out) == "binary" and kind_of(args[0]) != "binary"
