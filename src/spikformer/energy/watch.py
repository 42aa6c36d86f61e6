"""See every operation of a network while it runs, whoever wrote it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spikformer.energy.counters import COUNTERS, NO_MAPS, TIME_BEGINS
from spikformer.energy.operands import kind_of
from spikformer.energy.operations import Factors, Operation, Role
from spikformer.nn.recognition import named_neurons

Key = tuple[str, str, int]
"""Layer, role, and the place of its weights, or its number in a call of the layer."""


@dataclass(eq=False)
class _Product:
    """Of activations, a [..., m, k] by b [..., k, n]: itself, or half of an attention."""

    a: Tensor
    b: Tensor
    counted: bool = False


@dataclass
class _Call:
    """A module while it runs.

    Args:
        name: In its model.
        number: How many operations of each role it has begun.
        products: Those that may turn out to be half an attention.
        masks: Products element by element, which are a neuron's own if this is one.
        busy: Whether anything that is counted ran in it.
    """

    name: str
    number: dict[str, int] = field(default_factory=dict)
    products: list[_Product] = field(default_factory=list)
    masks: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    busy: bool = False


class _Tags:
    """What is known of tensors of this pass. They are kept, or others would take their places."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._known: dict[int, tuple[Tensor, Any]] = {id(x): (x, None) for x in tensors}

    def __contains__(self, x: Tensor) -> bool:
        return id(x) in self._known

    def get(self, x: Tensor) -> Any:
        return self._known.get(id(x), (x, None))[1]

    def set(self, x: Tensor, tagged: bool, value: Any = None) -> None:
        """Say whether x has the tag: an operation in place may take it away."""
        if tagged:
            self._known[id(x)] = (x, value)
        else:
            self._known.pop(id(x), None)


class Watch(TorchDispatchMode):
    """Counts the operations of a model's forward passes into `operations`, first seen first.

    A weight is told from an activation by where it comes from: what parameters and buffers alone
    give, such as a norm folded into a convolution, is one. A neuron is told by its name or class, or
    by the spikes that it makes. Memory is that of one forward pass.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.samples = 0
        self.operations: dict[Key, Operation] = {}
        self.uncounted: set[str] = set()
        self._neurons = named_neurons(model)
        self._begin([])

    def _begin(self, still: list[Tensor]) -> None:
        own = [*self.model.parameters(), *self.model.buffers()]
        self._places = {_place(x) for x in own if x.numel()}
        self._weights, self._still, self._made = _Tags(own), _Tags(still), _Tags([])
        self._calls = [_Call("")]
        self._ran: dict[Key, list[tuple[int, bool]]] = {}

    @contextmanager
    def forward_pass(self, batch: Tensor, samples: int, steps: int, still: bool) -> Iterator[None]:
        """One forward pass runs in this block.

        Args:
            batch: What goes in.
            samples: How many samples that is.
            steps: $T$.
            still: Whether it is the same for all steps of a sample, who see it one after the other.
        """
        self._begin([batch] if still else [])
        with ExitStack() as stack:
            for name, module in self.model.named_modules():
                for hook in self._hooks(name, module):
                    stack.callback(hook.remove)
            stack.enter_context(_in_plain_operations())
            with self:
                yield
            self._leave(None, None)
        self.samples += samples
        for key, ran in self._ran.items():
            (instances, alike), once = ran[0], len(ran) == 1
            self.operations[key].once = once and instances == samples
            self.operations[key].shared = once and alike and steps > 1
        self._begin([])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if tensors and not all(x in self._weights for x in tensors):
            count = COUNTERS.get(func.overloadpacket)
            if count is not None:
                count(self, out, *args, **kwargs)
            elif _maps(func, [x for x in tensors if x in self._weights]):
                self.uncounted.add(func.overloadpacket.__name__)
        self._tag(func, tensors, [x for x in tree_leaves(out) if isinstance(x, Tensor)])
        return out

    def row(self, role: Role, instances: int, x: Tensor, weight: Tensor | None = None) -> Operation:
        """The row of what the running module does next.

        Args:
            role: What it does.
            instances: On how many samples times steps.
            x: What it is given.
            weight: Of a map: the same one is the same row.
        """
        call = self._calls[-1]
        call.busy = True
        number = call.number.get(role, 0)
        call.number[role] = number + 1
        if weight is not None and _place(weight) in self._places:
            number = _place(weight)
        key = (call.name, role, number)
        self._ran.setdefault(key, []).append((instances, x in self._still))
        return self.operations.setdefault(key, Operation(call.name, role))

    def is_weight(self, x: Tensor) -> bool:
        return x in self._weights

    def multiply(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """A product of activations: half an attention, if the other half is a factor of it."""
        first = self._made.get(a) or self._made.get(b)
        if first is not None and not first.counted:
            first.counted = True
            q, k, v = _attention((first.a, first.b), a, b, left=self._made.get(a) is first)
            self.row("attention", 0, q).attend((first.a, first.b), (a, b), q, k, v)
            return
        product = _Product(a, b)
        self._calls[-1].products.append(product)
        self._made.set(out, tagged=True, value=product)

    def mask(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """A product element by element, if it is one of activations and spikes are in it."""
        if min(a.dim(), b.dim()) < 2 or self.is_weight(a) or self.is_weight(b):
            return
        if "binary" in (kind_of(a), kind_of(b)):
            self._calls[-1].masks.append((a.clone(), b.clone(), out))

    def _tag(self, func: Any, tensors: list[Tensor], made: list[Tensor]) -> None:
        weights = bool(tensors) and all(x in self._weights for x in tensors)
        others = [x for x in tensors if x not in self._weights]
        still = bool(others) and all(x in self._still for x in others) and not _begins(func, others)
        source = self._made.get(others[0]) if len(others) == 1 else None
        for x in made:
            if x.numel():
                self._weights.set(x, weights)
                self._still.set(x, still)
                if source is not None:
                    self._made.set(x, tagged=True, value=source)

    def _hooks(self, name: str, module: nn.Module) -> Iterator[Any]:
        def enter(_module: nn.Module, _args: Any) -> None:
            self._calls.append(_Call(name))

        def leave(_module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            self._leave(given[0] if given else None, out)

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave, with_kwargs=True, always_call=True)

    def _leave(self, given: Tensor | None, out: Any) -> None:
        with torch._C._DisableTorchDispatch():
            call = self._calls[-1]
            for product in call.products:
                if not product.counted:
                    product.counted = True
                    self.row("product", 0, product.a).multiply(product.a, product.b)
            fires = given is not None and (call.name in self._neurons or _fires(given, out))
            if given is not None and fires and not call.busy:
                self.row("neuron", 0, given).update(given)
            else:
                self._count_masks(call)
            for x in tree_leaves(out) if fires else ():
                if isinstance(x, Tensor):
                    self._still.set(x, tagged=False)
            if len(self._calls) > 1:
                self._calls.pop()
                self._calls[-1].busy |= call.busy

    def _count_masks(self, call: _Call) -> None:
        for a, b, made in call.masks:
            self.row("mask", 0, a).mask(a, b, made)


@contextmanager
def _in_plain_operations() -> Iterator[None]:
    """Without what hides operations or their weights: fused attention layers, cached casts."""
    fast, cached = torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_cache_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_autocast_cache_enabled(cached)


def _begins(func: Any, given: list[Tensor]) -> bool:
    again = len({id(x) for x in given}) < len(given)  # cat([x] * T)
    return func.overloadpacket in TIME_BEGINS or (
        func.overloadpacket == torch.ops.aten.cat and again
    )


def _maps(func: Any, weights: list[Tensor]) -> bool:
    """Whether an operation that nobody counts may well be a map."""
    plain = func.is_view or torch.Tag.pointwise in func.tags
    return (
        not plain
        and func.overloadpacket.__name__ not in NO_MAPS
        and any(x.dim() > 1 and x.numel() > max(x.shape) for x in weights)
    )


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _attention(
    first: Factors, a: Tensor, b: Tensor, *, left: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [..., N, d] of the products `first` and then a b.

    Which of them `first` joined, shapes alone say: heads are taken to be no wider than their tokens
    are many. Tokens may come last.
    """
    tokens_first = first[1].shape[-1] >= first[0].shape[-1]
    if left and tokens_first:  # (Q K^T) V
        return first[0], first[1].mT, b
    if left:  # (V K^T) Q, tokens last
        return b.mT, first[1], first[0].mT
    if tokens_first:  # V (K^T Q), tokens last
        return first[1].mT, first[0], a.mT
    return a, first[0].mT, first[1]  # Q (K^T V)


def _fires(given: Tensor, out: Any) -> bool:
    """Whether a module turned what is no spike into spikes."""
    if not isinstance(out, Tensor) or given.shape != out.shape or not out.is_floating_point():
        return False
    return bool(out.any()) and kind_of(out) == "binary" and kind_of(given) != "binary"
