"""Images and arrays as text that a page can hold."""

import base64
import io

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

LARGEST_SIDE = 96
"""Of a picture on a page, in pixels."""


def one_of_each(labels: Int64[Tensor, " n"], count: int) -> Int64[Tensor, " _"]:
    """Indices of the first samples of every class, class by class, then of the second ones."""
    seen: dict[int, int] = {}
    turns = []
    for label in labels.tolist():
        turns.append((seen.get(label, 0), label))
        seen[label] = seen.get(label, 0) + 1
    order = sorted(range(len(turns)), key=turns.__getitem__)
    return torch.tensor(order[:count], dtype=torch.int64)


def visible(
    image: UInt8[Tensor, "C H W"] | Float[Tensor, "T 2 H W"],
) -> UInt8[Tensor, "C2 H W"]:
    """An image, or what a recording looks like: brighter is red, darker blue, nothing white."""
    if image.dim() == 3:
        return image
    counts = image.sum(0)
    off, on = counts / counts.amax().clamp(min=1)
    return ((1 - torch.stack([off, torch.maximum(on, off), on])) * 255).to(torch.uint8)


def data_uri(image: UInt8[Tensor, "C H W"] | Float[Tensor, "T 2 H W"]) -> str:
    """A PNG inside its own address; large ones are made smaller."""
    pixels = visible(image).movedim(0, -1).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def packed_bits(spikes: Float[Tensor, "*shape"]) -> str:
    """Zeros and ones, eight a byte, the first one highest, in base64."""
    return base64.b64encode(np.packbits(spikes.flatten().bool().numpy()).tobytes()).decode()


def packed_bytes(x: Float[Tensor, "*shape"]) -> tuple[str, float]:
    """Non-negative numbers as bytes in base64, and what one unit of a byte is worth.

    Integers up to 255 are kept as they are; all else is rounded to 255ths of the largest.
    """
    largest = float(x.max())
    whole = largest <= 255 and bool((x == x.round()).all())
    unit = 1.0 if whole or largest <= 0 else largest / 255
    rounded = (x.double() / unit).round().clamp(0, 255).to(torch.uint8)
    return base64.b64encode(rounded.numpy().tobytes()).decode(), unit
