"""What every operation needs besides its mathematics, in one place."""

import os
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._inductor.decomposition import decompositions, register_decomposition
from torch._library.custom_ops import CustomOpDef
from torch.library import Library, custom_op

AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA", "AutocastXPU", "AutocastMPS")

_library = Library("spikformer", "FRAGMENT")


def declare(
    name: str,
    schema: str,
    *,
    eager: Callable[..., Any],
    reference: Callable[..., Any],
    fake: Callable[..., Any],
) -> CustomOpDef:
    """Declare the operation `spikformer::<name>`.

    Args:
        schema: Its signature, in PyTorch's schema language.
        eager: What runs when nothing is compiled.
        reference: The same in plain functional PyTorch. The compiler inlines it (Inductor), so
            the operation fuses with its neighbours; an exported graph keeps one node.
        fake: Shapes, types and strides of the results.
    """
    op = custom_op(f"spikformer::{name}", eager, mutates_args=(), schema=schema)
    op.register_fake(fake)
    overload = getattr(torch.ops.spikformer, name).default
    register_decomposition([overload])(reference)
    for key in AUTOCAST_KEYS:
        _library.impl(name, _without_autocast(overload, key), key, with_keyset=True)
    return op


def differentiate(forward: CustomOpDef, backward: CustomOpDef, *, tensors: int) -> None:
    """Make `backward` the gradient of `forward`.

    Args:
        forward: Its first `tensors` inputs are tensors, or None; the others are plain options.
        backward: Takes the gradients of all results, then every input of `forward`. Returns one
            gradient for each tensor, also where that tensor is None.
    """

    def keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 PyTorch's name
        ctx.save_for_backward(*inputs[:tensors])
        ctx.options = inputs[tensors:]

    def gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        results = backward(*grads, *inputs, *ctx.options)
        of_tensors = [g if x is not None else None for g, x in zip(results, inputs, strict=True)]
        return *of_tensors, *[None] * len(ctx.options)

    forward.register_autograd(gradients, setup_context=keep_inputs)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The type that potentials and counts are kept in: float32 for half types, else `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _without_autocast(overload: Callable[..., Any], key: str) -> Callable[..., Any]:
    # Inputs keep their types (`torch.library.register_autocast` would cast them): each operation
    # says itself what it accumulates in, and autocast must not overrule the body.
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def rule(_keyset: Any, *args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return overload(*args, **kwargs)

    return rule


class Backends(NamedTuple):
    """What runs an operation, and why."""

    eager: str
    compiled: str
    why: str


def backends(name: str) -> Backends:
    """What runs `spikformer::<name>` in this process, by what PyTorch has registered for it."""
    overload = getattr(torch.ops.spikformer, name).default
    inlined = overload in decompositions
    native = torch.cuda.is_available() and torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CUDA"
    )
    eager = "CUDA kernel" if native else "PyTorch"
    compiled = "inlined and fused (Inductor)" if inlined else "as eager"
    why = "no hand-written kernel is registered" if not native else "a GPU is there"
    if shutil.which(os.environ.get("CXX", "g++")) is None and not torch.cuda.is_available():
        compiled, why = "not possible", "torch.compile needs a C++ compiler, and none is found"
    return Backends(eager, compiled, why)
