"""State dicts as the authors' files hold them, key by key, by their shapes alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

LAYOUTS = ("cifar10", "imagenet", "cifar10dvs", "cifar10_first")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def state(
    layout: str, depth: int, dim: int, in_chans: int, num_classes: int, seed: int = 0
) -> dict[str, Tensor]:
    """A full state dict of random numbers, dead entries included."""
    generator = torch.Generator().manual_seed(seed)
    entries: dict[str, Tensor] = {}
    for key, shape in _shapes(layout, depth, dim, in_chans, num_classes):
        if key.endswith("num_batches_tracked"):
            entries[key] = torch.tensor(1234)
        else:
            entries[key] = torch.empty(shape).uniform_(0.5, 1.5, generator=generator)
    return entries


def parameters(entries: dict[str, Tensor]) -> int:
    """How many of the numbers are parameters, dead ones included."""
    return sum(x.numel() for key, x in entries.items() if not key.endswith(STATISTICS))


def _shapes(
    layout: str, depth: int, dim: int, in_chans: int, num_classes: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    if layout == "cifar10dvs":
        yield "pos_embed", (1, 64, dim)
    widths = [in_chans, dim // 8, dim // 4, dim // 2, dim]
    for stage in range(4):
        if layout == "cifar10_first":
            conv, norm = f"block{stage + 1}_conv", f"block{stage + 1}_bn"
        else:
            conv, norm = f"proj_conv{stage or ''}", f"proj_bn{stage or ''}"
        yield f"patch_embed.{conv}.weight", (widths[stage + 1], widths[stage], 3, 3)
        yield from _norm(f"patch_embed.{norm}", widths[stage + 1])
    yield "patch_embed.rpe_conv.weight", (dim, dim, 3, 3)
    yield from _norm("patch_embed.rpe_bn", dim)
    for block in range(depth):
        yield from _block(layout, f"block.{block}", dim)
    if layout == "cifar10dvs":
        yield from _layer_norm("norm", dim)
    yield "head.weight", (num_classes, dim)
    yield "head.bias", (num_classes,)


def _block(layout: str, block: str, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    kind = "linear" if layout == "cifar10" else "conv"
    attention_tail = () if layout == "cifar10" else (1,)
    mlp_tail = {"cifar10": (), "cifar10dvs": (1,)}.get(layout, (1, 1))
    yield from _layer_norm(f"{block}.norm1", dim)
    for part in ("q", "k", "v", "proj"):
        yield f"{block}.attn.{part}_{kind}.weight", (dim, dim, *attention_tail)
        if layout == "cifar10" or part == "proj":
            yield f"{block}.attn.{part}_{kind}.bias", (dim,)
        yield from _norm(f"{block}.attn.{part}_bn", dim)
    yield from _layer_norm(f"{block}.norm2", dim)
    for part, rows, columns in (("fc1", 4 * dim, dim), ("fc2", dim, 4 * dim)):
        yield f"{block}.mlp.{part}_{kind}.weight", (rows, columns, *mlp_tail)
        yield f"{block}.mlp.{part}_{kind}.bias", (rows,)
        yield from _norm(f"{block}.mlp.{part}_bn", rows)


def _layer_norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _layer_norm(name, width)
    yield f"{name}.running_mean", (width,)
    yield f"{name}.running_var", (width,)
    yield f"{name}.num_batches_tracked", ()
