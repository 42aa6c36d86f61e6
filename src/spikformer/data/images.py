"""Image files of any size and mode, as the pixels a model was trained on."""

import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from spikformer._files import must_exist
from spikformer.errors import ConfigError, DataError

MODES = {1: "L", 3: "RGB"}
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def read_image(
    path: Path, size: tuple[int, int, int], interpolation: str = "bilinear"
) -> UInt8[Tensor, "C H W"]:
    """Read an image: upright by its EXIF tag, transparency on black, more bits to eight.

    The shorter side is brought to size, the middle of the longer one is kept.

    Args:
        path: Any file that Pillow reads.
        size: C (1 or 3), H, W.
        interpolation: `nearest`, `bilinear` or `bicubic`.

    Raises:
        DataError: when there is no such file, or it is no image, damaged or too large.
        ConfigError: when the model does not take images.
    """
    channels, height, width = size
    if channels not in MODES:
        raise ConfigError(f"the model takes {channels} channels: no image has as many")
    must_exist(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                image = _opaque(_eight_bits(image)).convert(MODES[channels])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning) as error:
        raise DataError(f"cannot read {str(path)!r} as an image: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{str(path)!r} is too large to be an honest image: {error}") from error
    fitted = ImageOps.fit(image, (width, height), RESAMPLING[interpolation])
    return torch.from_numpy(np.array(fitted).reshape(height, width, channels)).movedim(-1, 0)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Integers of 16 or 32 bits and floats as bytes; the largest value tells what white is."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    largest = values.max(initial=0)
    whites = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    white = (
        65535 if image.mode.startswith("I;16") else next((w for w in whites if largest <= w), None)
    )
    if white is None or values.min(initial=0) < 0 or not np.isfinite(largest):
        raise ValueError(f"its values do not lie between 0 and {whites[-1]}")
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over)
