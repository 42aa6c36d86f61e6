r"""Attention without softmax: $QK^\top V$, multiplied in whichever order is cheaper.

Spikformer, eq. 15 and section 3.3. Products of spikes are counts, exact in the accumulator up to
$2^{24}$; the order cannot change a bit of them. The adjoint is derived in README.md beside this.
"""

import torch
from torch import Tensor

from spikformer.kernels._declare import accumulator

MATRICES = 3
"""Dimensions of one step's heads, [h, N, d]; what comes before is time, or samples."""


def keys_first(q: Tensor) -> bool:
    """Whether $Q(K^\top V)$, with $2Nd^2$ products, beats $(QK^\top)V$, with $2N^2d$."""
    tokens, head_width = q.shape[-2:]
    return head_width < tokens


def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = _accumulating(q, k, v)
    if keys_first(q):
        return q @ (k.mT @ v)
    return (q @ k.mT) @ v


def forward_eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`forward`, one step after the other."""
    counts = fake(q)
    for steps in _in_steps(counts, q, k, v):
        counts_t, *qkv = steps
        counts_t.copy_(forward(*qkv))
    return counts


def backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dtype = q.dtype
    q, k, v = _accumulating(q, k, v)
    grad = grad.to(q.dtype)
    if keys_first(q):
        grad_kv = q.mT @ grad
        grads = grad @ (k.mT @ v).mT, v @ grad_kv.mT, k @ grad_kv
    else:
        grad_qk = grad @ v.mT
        grads = grad_qk @ k, grad_qk.mT @ q, (q @ k.mT).mT @ grad
    grad_q, grad_k, grad_v = (g.to(dtype) for g in grads)
    return grad_q, grad_k, grad_v


def backward_eager(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`backward`, one step after the other."""
    grads = fake_backward(q, k, v)
    for steps in _in_steps(*grads, grad, q, k, v):
        for grad_t, found in zip(steps[:3], backward(*steps[3:]), strict=True):
            grad_t.copy_(found)
    return grads


def _in_steps(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    # A CPU's allocator keeps small tensors at hand; large ones it gives back and faults in anew.
    if tensors[0].dim() > MATRICES and tensors[0].device.type == "cpu":
        return list(zip(*tensors, strict=True))
    return [tensors]


def _accumulating(*tensors: Tensor) -> tuple[Tensor, ...]:
    # Contiguous at once: heads are views into one layer's channels, which products would copy again.
    dtype, layout = accumulator(tensors[0].dtype), torch.contiguous_format
    return tuple(t.to(dtype, memory_format=layout) for t in tensors)


def fake(q: Tensor) -> Tensor:
    return torch.empty(q.shape, dtype=accumulator(q.dtype), device=q.device)


def fake_backward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad_q, grad_k, grad_v = (
        torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)
    )
    return grad_q, grad_k, grad_v
