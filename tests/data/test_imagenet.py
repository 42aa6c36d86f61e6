import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from spikformer.data import load_data
from spikformer.data.imagenet import Pictures, centred, read, squashed
from spikformer.data.timm_augment import timm_rand_augment
from spikformer.errors import ConfigError, DataError

DRAW = np.random.default_rng(0)


def picture(width, height, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(DRAW.integers(0, 256, shape, dtype=np.uint8), mode=None)


@pytest.fixture
def root(tmp_path):
    """Two classes, in all the modes that ImageNet has."""
    for part, count in {"train": 6, "val": 2}.items():
        for name in ("n01", "n02"):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                made = picture(40 + 20 * n, 60)
                if n == 1:
                    made = made.convert("L")
                if n == 2:
                    made = made.convert("CMYK")
                made.save(folder / f"{name}_{n}.JPEG")
    return tmp_path


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (224, 224), (5, 9), (500, 224), (10, 85)])
def test_pictures_to_test_on_are_resized_and_cropped_as_torchvision_does(size):
    made = picture(*size)
    usual = v2.Compose([v2.Resize(224, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
    assert np.array_equal(np.asarray(centred(made, 224)), np.asarray(usual(made)))


def test_pictures_to_train_on_are_squashed_whole():
    made = picture(240, 200)
    whole = made.resize((224, 224), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(squashed(made, 224)), np.asarray(whole))


@pytest.mark.parametrize(
    ("size", "box"), [((400, 150), (100, 0, 300, 150)), ((90, 300), (0, 90, 90, 210))]
)
def test_of_long_pictures_the_middle_is_squashed(size, box):
    made = picture(*size)
    middle = made.crop(box).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(squashed(made, 64)), np.asarray(middle))


def test_folders_are_classes_and_every_mode_becomes_colour(root):
    data = load_data("imagenet", root, side=32)
    assert data.classes == ("n01", "n02")
    assert data.train.images.shape == (12, 3, 32, 32)
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    batch = data.train.images[torch.arange(3)]
    assert (batch.dtype, batch.shape) == (torch.uint8, (3, 3, 32, 32))
    assert torch.equal(batch[1, 0], batch[1, 2])  # was grey
    assert data.split_name == "official"
    assert len(data.validation) == 0
    assert data.input_size == (3, 32, 32)


def test_validation_is_cut_from_the_training_pictures(root):
    data = load_data("imagenet", root, side=32, validation=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 4, 4)
    assert torch.bincount(data.validation.labels).tolist() == [2, 2]
    assert data.train.images.squash
    assert not data.validation.images.squash
    assert set(data.train.images.paths).isdisjoint(data.validation.images.paths)


def test_an_orientation_in_the_exif_data_is_not_looked_at(tmp_path):
    made = picture(8, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    made.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read(tmp_path / "a.png")), np.asarray(made))


def test_a_damaged_picture_is_named(root):
    path = root / "imagenet" / "train" / "n01" / "n01_0.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    data = load_data("imagenet", root, side=32)
    with pytest.raises(DataError, match=r"n01_0\.JPEG cannot be decoded"):
        data.train.images[torch.arange(2)]


def test_what_is_missing_is_said(root, tmp_path):
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(
        DataError, match=r"there is no imagenet/train and imagenet/val in .*nowhere"
    ):
        load_data("imagenet", tmp_path / "nowhere")
    shutil.rmtree(root / "imagenet" / "val" / "n02")
    with pytest.raises(DataError, match="has 2 classes to train on, 1 to test on"):
        load_data("imagenet", root)
    shutil.rmtree(root / "imagenet" / "train" / "n02")
    (root / "imagenet" / "train" / "n02").mkdir()
    with pytest.raises(DataError, match="has no pictures of n02"):
        load_data("imagenet", root)
    with pytest.raises(ConfigError, match="imagenet has no frames to choose"):
        load_data("imagenet", root, frames=4)


def test_every_real_picture_is_read(data_root):
    paths = sorted((data_root / "imagenet-sample").glob("*/*"))
    assert len(paths) == 100
    for squash in (True, False):
        batch = Pictures(paths, 96, squash)[torch.arange(100)]
        assert batch.shape == (100, 3, 96, 96)
        assert (batch.float().std((1, 2, 3)) > 5).all()
        grey = (batch[:, 0] == batch[:, 2]).flatten(1).all(1)
        assert grey.sum() >= 7


def test_timms_operations_depend_on_their_numbers_alone():
    images = torch.randint(0, 256, (6, 3, 24, 24), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    settings = {"magnitude": 9.0, "deviation": 0.5, "fill": (124, 116, 104)}
    numbers = torch.linspace(0.05, 0.95, 6)
    before = np.random.get_state()[1].copy()
    changed = timm_rand_augment(images, numbers, **settings)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(5)
    assert torch.equal(timm_rand_augment(images, numbers, **settings), changed)
    backwards = timm_rand_augment(images.flip(0), numbers.flip(0), **settings)
    assert torch.equal(backwards.flip(0), changed)
    assert not torch.equal(changed, images)


def test_timms_operations_leave_a_quarter_alone_and_a_mean_colour_recognisable():
    images = torch.randint(0, 256, (400, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    settings = {"magnitude": 9.0, "deviation": 0.5, "fill": (124, 116, 104)}
    numbers = torch.rand(400, generator=torch.Generator().manual_seed(1))
    changed = timm_rand_augment(images.to(torch.uint8), numbers, **settings)
    untouched = (changed == images).flatten(1).all(1).float().mean()
    assert untouched == pytest.approx(0.25, abs=0.07)  # two operations, each with one half


def test_the_operations_are_timms_own_bicubic():
    from timm.data.auto_augment import rand_augment_transform

    fill = (124, 116, 104)
    hints = {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
    theirs = rand_augment_transform("rand-m9-mstd0-inc1", hints)
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images, numbers = images.to(torch.uint8), torch.linspace(0.01, 0.99, 60)
    ours = timm_rand_augment(images, numbers, magnitude=9.0, deviation=0.0, fill=fill)
    for image, number, changed in zip(images, numbers, ours, strict=True):
        random.seed(int(number.item() * 2**32))
        np.random.seed(int(number.item() * 2**32))
        expected = theirs(v2.functional.to_pil_image(image))
        assert torch.equal(v2.functional.pil_to_tensor(expected), changed)


def test_any_magnitude_will_do():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    settings = {"magnitude": 8.5, "deviation": 0.25, "fill": (0, 0, 0)}
    assert timm_rand_augment(images, torch.tensor([0.1, 0.6]), **settings).shape == images.shape
