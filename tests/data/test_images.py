import numpy as np
import pytest
import torch
from PIL import Image

from spikformer.data.images import read_image
from spikformer.errors import ConfigError, DataError

SIZE = (1, 16, 16)


def saved(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_every_mode_reads_as_the_grey_it_shows(tmp_path, mode):
    name = "image.png" if mode in ("1", "L", "P", "RGB") else "image.tif"
    grey = 255 if mode == "1" else 100
    image = Image.new("L", (40, 30), grey)
    if mode not in ("1", "P"):  # Pillow dithers colours into these two
        image = image.convert("RGB")
    pixels = read_image(saved(tmp_path, image.convert(mode), name), SIZE)
    assert pixels.shape == SIZE
    assert pixels.dtype == torch.uint8
    assert (pixels.float() - grey).abs().max() <= 2  # CMYK and YCbCr round


def test_sixteen_bits_become_eight(tmp_path):
    image = Image.fromarray(np.full((20, 20), 25700, np.uint16))
    assert read_image(saved(tmp_path, image), SIZE).unique().tolist() == [100]


def test_transparency_shows_black(tmp_path):
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    assert read_image(saved(tmp_path, image), (3, 16, 16)).max() == 0


def test_the_exif_tag_turns_the_image_upright(tmp_path):
    image = Image.new("L", (16, 16), 0)
    image.paste(255, (0, 0, 16, 8))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = read_image(saved(tmp_path, image, exif=exif), SIZE)[0]
    assert pixels[0].min() == 0 == pixels[0].max()
    assert pixels[-1].min() == 255


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (17, 300), (2000, 1000)])
def test_every_size_fits(tmp_path, shape):
    assert read_image(saved(tmp_path, Image.new("L", shape, 7)), SIZE).unique().tolist() == [7]


def test_the_middle_of_a_long_image_is_kept(tmp_path):
    image = Image.new("L", (48, 16), 0)
    image.paste(255, (16, 0, 32, 16))
    assert read_image(saved(tmp_path, image), SIZE).float().mean() > 230


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_one_clear_error(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*broken\.png' as an image"):
        read_image(path, SIZE)


def test_a_truncated_image_is_one_clear_error(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path = saved(tmp_path, noise, "cut.jpg")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="cannot read"):
        read_image(path, SIZE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*nothing\.png"):
        read_image(tmp_path / "nothing.png", SIZE)


def test_a_bomb_does_not_go_off(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="bomb"):
        read_image(path, SIZE)


def test_event_models_take_no_images(tmp_path):
    with pytest.raises(ConfigError, match="2 channels"):
        read_image(saved(tmp_path, Image.new("L", (4, 4))), (2, 128, 128))


def test_real_photographs_read_whatever_their_mode_and_size(data_root):
    files = sorted((data_root / "imagenet-sample").rglob("*.JPEG"))
    if not files:
        pytest.skip("the ImageNet sample is not there")
    modes = set()
    for file in files:
        with Image.open(file) as image:
            modes.add(image.mode)
        for size in ((3, 224, 224), (1, 16, 16)):
            pixels = read_image(file, size)
            assert pixels.shape == size
            assert pixels.float().std() > 1
    assert {"RGB", "L"} <= modes


@pytest.mark.parametrize(
    ("values", "byte"),
    [
        (np.full((20, 20), 100, np.int32), 100),
        (np.full((20, 20), 25700, np.int32), 100),
        (np.full((20, 20), 0.4, np.float32), 102),
        (np.full((20, 20), 100, np.float32), 100),
    ],
)
def test_wide_numbers_read_as_the_grey_they_mean(tmp_path, values, byte):
    assert read_image(
        saved(tmp_path, Image.fromarray(values), "a.tif"), SIZE
    ).unique().tolist() == [byte]


@pytest.mark.parametrize("value", [-1, 70_000])
def test_wide_numbers_that_mean_no_grey_are_refused(tmp_path, value):
    path = saved(tmp_path, Image.fromarray(np.full((9, 9), value, np.int32)), "a.tif")
    with pytest.raises(DataError, match="do not lie between 0 and 65535"):
        read_image(path, SIZE)
