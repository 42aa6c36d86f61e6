"""One row for each place where a network computes, with exact counts of what it did there."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from spikformer.energy.operands import Operand

Role = Literal["map", "product", "attention", "mask", "neuron"]
Factors = tuple[Tensor, Tensor]
"""Of a product: a [..., m, k] and b [..., k, n]."""


@dataclass
class Product:
    """Counts of one product of activations.

    Args:
        factors: What the two hold.
        macs: As if nothing were 0.
        additions: Pairs of factors that are both not 0.
    """

    factors: tuple[Operand, Operand] = field(default_factory=lambda: (Operand(), Operand()))
    macs: int = 0
    additions: int = 0

    def see(self, a: Tensor, b: Tensor) -> None:
        """Add the product of a and b."""
        for operand, x in zip(self.factors, (a, b), strict=True):
            operand.see(x)
        self.macs += a.numel() * b.shape[-1]
        self.additions += int(_coincidences(a != 0, b != 0))


@dataclass
class Operation:
    """What one operation of a network did, summed over all samples.

    All counts are of what ran. Where `shared`, it ran once for the T steps of a sample that see the
    same; conventions charge it T times.

    Args:
        layer: Name of the module that ran it.
        role: `map`: a convolution or linear map by weights; `product`: of two activations;
            `attention`: the products of queries, keys and values; `mask`: of two activations,
            element by element; `neuron`: updates of membrane potentials.
        operands: Of the input; of both factors; of queries, keys and values.
        products: Of a product, itself; of an attention, both.
        parameters: Weights and biases.
        macs: Multiply-accumulates as if nothing were 0, padding included.
        additions: Pairs of an input that is not 0 and an output that it reaches, or of two factors
            that are not 0.
        weighted: The same, each as often as the absolute value of the input says.
        biases: Additions of biases.
        outputs: Numbers that came out.
        macs_tokens_first: Of attention: those of the order $(QK^T)V$.
        macs_keys_first: Of attention: those of $Q(K^TV)$.
        once: Whether it ran once for each sample.
        shared: Whether that was for all its steps alike.
    """

    layer: str
    role: Role
    operands: tuple[Operand, ...] = ()
    products: tuple[Product, ...] = ()
    parameters: int = 0
    macs: int = 0
    additions: int = 0
    weighted: float = 0.0
    biases: int = 0
    outputs: int = 0
    macs_tokens_first: int = 0
    macs_keys_first: int = 0
    once: bool = False
    shared: bool = False
    reach: dict[tuple[int, ...], Tensor] = field(default_factory=dict, repr=False)

    @property
    def input(self) -> Operand:
        return self.operands[0]

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        out: Tensor,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        groups: int,
    ) -> None:
        """Count a convolution of x [N, C, ...] to out [N, C', ...]."""
        self._see(x)
        self.parameters = weight.numel() + (0 if bias is None else bias.numel())
        self.macs += (x if transposed else out).numel() * weight[0].numel()
        self.outputs += out.numel()
        self.biases += 0 if bias is None else out.numel()
        places = self._reach(x, weight, out, stride, padding, dilation, transposed)
        fan_out = (weight.shape[1] if transposed else weight.shape[0] // groups) * places
        axes = (0, 1)
        self.additions += int(((x != 0).sum(axes) * fan_out).sum())
        self.weighted += float((x.abs().sum(axes, dtype=torch.float64) * fan_out).sum())

    def map(self, x: Tensor, weights: int, bias: int, fan_out: int, out: Tensor) -> None:
        """Count a linear map of rows x [R, C], each element of which reaches `fan_out` outputs."""
        self._see(x)
        self.parameters = weights + bias
        self.macs += x.numel() * fan_out
        self.outputs += out.numel()
        self.biases += out.numel() if bias else 0
        self.additions += int(x.count_nonzero()) * fan_out
        self.weighted += float(x.abs().sum(dtype=torch.float64)) * fan_out

    def multiply(self, a: Tensor, b: Tensor) -> None:
        """Count a product of activations, a [..., m, k] by b [..., k, n]."""
        self._see(a, b)
        self.outputs += a.numel() // a.shape[-1] * b.shape[-1]
        self._count((a, b))

    def attend(self, first: Factors, second: Factors, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Count the two products of an attention.

        Args:
            first: Factors of the one.
            second: Factors of the other, of which one is what became of the first product.
            q: Queries [..., N, d].
            k: Keys [..., M, d].
            v: Values [..., M, e].
        """
        self._see(q, k, v)
        queries, keys, values = q.numel(), k.shape[-2], v.shape[-1]
        self.macs_tokens_first += queries * keys + queries // q.shape[-1] * keys * values
        self.macs_keys_first += k.numel() * values + queries * values
        self.outputs += queries // q.shape[-1] * values
        self._count(first, second)

    def mask(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Count a product of activations element by element."""
        self._see(a, b)
        self.macs += out.numel()
        self.outputs += out.numel()
        self.additions += int(((a != 0) & (b != 0)).sum())
        self.weighted += float(out.abs().sum(dtype=torch.float64))

    def update(self, current: Tensor) -> None:
        """Count the updates of a neuron's potentials, one for each current."""
        self._see(current)
        self.outputs += current.numel()

    def _see(self, *tensors: Tensor) -> None:
        if not self.operands:
            self.operands = tuple(Operand() for _ in tensors)
        for operand, x in zip(self.operands, tensors, strict=True):
            operand.see(x)

    def _count(self, *factors: Factors) -> None:
        if not self.products:
            self.products = tuple(Product() for _ in factors)
        for product, (a, b) in zip(self.products, factors, strict=True):
            product.see(a, b)
            self.weighted += float(_coincidences(a.abs(), b.abs()))
        self.macs = sum(product.macs for product in self.products)
        self.additions = sum(product.additions for product in self.products)

    def _reach(
        self,
        x: Tensor,
        weight: Tensor,
        out: Tensor,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
    ) -> Tensor:
        """How many places of the output each place of the input reaches."""
        shape = tuple(x.shape[2:])
        if shape not in self.reach:
            window = x.new_ones((1, 1, *weight.shape[2:]), dtype=torch.float64)
            ends = x.new_ones((1, 1, *out.shape[2:]), dtype=torch.float64)
            convolve = torch.ops.aten.convolution
            rest = [0] * len(shape)
            if not transposed:
                sides = zip(
                    shape, ends.shape[2:], stride, padding, dilation, window.shape[2:], strict=True
                )
                rest = [n - ((o - 1) * s - 2 * p + d * (k - 1) + 1) for n, o, s, p, d, k in sides]
            reach = convolve(ends, window, None, stride, padding, dilation, not transposed, rest, 1)
            self.reach[shape] = reach[0, 0].round().long()
        return self.reach[shape]


def _coincidences(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the elements of the product a b: of masks, the pairs in which both are 1."""
    columns = a.sum(-2, dtype=torch.float64)
    rows = b.sum(-1, dtype=torch.float64)
    return (columns * rows).sum()
