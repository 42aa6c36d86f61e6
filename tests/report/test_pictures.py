"""Images and arrays as text, read back."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from spikformer.report.pictures import (
    LARGEST_SIDE,
    data_uri,
    one_of_each,
    packed_bits,
    packed_bytes,
    visible,
)


def opened(uri):
    kind, _, text = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_small_images_keep_every_pixel():
    gray = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert np.array_equal(np.asarray(opened(data_uri(gray))), gray[0].numpy())
    color = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    assert np.array_equal(np.asarray(opened(data_uri(color))), color.movedim(0, -1).numpy())


def test_large_images_are_made_smaller():
    image = torch.zeros(3, 200, 400, dtype=torch.uint8)
    assert opened(data_uri(image)).size == (LARGEST_SIDE, LARGEST_SIDE // 2)


def test_recordings_are_red_where_it_became_brighter_and_blue_where_darker():
    frames = torch.zeros(2, 2, 1, 3)
    frames[:, 1, 0, 0] = 1  # on
    frames[:, 0, 0, 2] = 1  # off
    red, white, blue = visible(frames)[:, 0].T.tolist()
    assert red == [255, 0, 0]
    assert white == [255, 255, 255]
    assert blue == [0, 0, 255]


def test_bits_are_eight_a_byte_the_first_one_highest():
    assert base64.b64decode(packed_bits(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 1, 1]))) == b"\x81\x80"


@pytest.mark.parametrize("values", [[0, 1, 255], [0, 0, 0], [0, 0.5, 2.0], [0, 100, 510]])
def test_bytes_are_whole_numbers_or_255ths_of_the_largest(values):
    x = torch.tensor(values, dtype=torch.float32)
    text, unit = packed_bytes(x)
    found = torch.tensor(list(base64.b64decode(text))) * unit
    assert (found - x).abs().max() <= (0 if unit == 1 else unit / 2)


def test_one_of_each_class_comes_first_then_the_second_ones():
    labels = torch.tensor([1, 1, 0, 2, 0, 1])
    assert one_of_each(labels, 5).tolist() == [2, 0, 3, 4, 1]
    assert one_of_each(labels[:0], 5).tolist() == []
