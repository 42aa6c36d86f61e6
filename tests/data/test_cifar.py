import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from spikformer.data import DATASETS, Choices, data_root, load_data
from spikformer.data._splits import fingerprint
from spikformer.data.loader import TrainingLoader
from spikformer.data.pixels import Augmentation, Pixels
from spikformer.errors import ConfigError, DataError
from spikformer.recipe import Augment

HASHES = {
    "cifar10": "195a552dbcd4e844aa4a663c47084cfbc41708c8e875d757ac1d1f723b116182",
    "cifar100": "9eed8c8e0da081fbd8d626b1b928bf57b0194c82c9879b60aed5bbf1979572b5",
}
"""Of the default split."""
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


@pytest.fixture(scope="module")
def official(cifar):
    """CIFAR-10 as it comes: nothing is kept for validation."""
    return cifar("cifar10", 0)


def contents(*splits):
    """How often each image with its label occurs."""
    return Counter(
        (hash(image.tobytes()), label)
        for split in splits
        for image, label in zip(split.images.numpy(), split.labels.tolist(), strict=True)
    )


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_default_split_is_the_published_one(cifar, name, classes):
    data = cifar(name)
    assert (data.name, data.split_name) == (name, "validation5000-seed0")
    assert data.split_hash == HASHES[name]
    sizes = {"train": 45_000, "validation": 5_000, "test": 10_000}
    for part, size in sizes.items():
        split = data.split(part)
        assert split.images.shape == (size, 3, 32, 32)
        assert split.labels.bincount().tolist() == [size // classes] * classes
    assert len(data.classes) == classes
    assert data.input_size == (3, 32, 32)


def test_classes_have_their_official_names(cifar):
    animals = ("bird", "cat", "deer", "dog", "frog", "horse")
    assert cifar("cifar10").classes == ("airplane", "automobile", *animals, "ship", "truck")
    hundred = cifar("cifar100").classes
    assert hundred[:3] == ("apple", "aquarium_fish", "baby")
    assert hundred[-1] == "worm"
    assert list(hundred) == sorted(hundred)


def test_the_first_images_are_the_known_ones(official):
    # a frog, two trucks, a deer; a cat, two ships, an airplane
    assert official.train.labels[:4].tolist() == [6, 9, 9, 4]
    assert official.test.labels[:4].tolist() == [3, 8, 8, 0]
    # the frog begins with red 59, green 62, blue 63 and then 43, 46, 45
    assert official.train.images[0, :, 0, :2].tolist() == [[59, 43], [62, 46], [63, 45]]


def test_without_validation_all_images_train_in_390_batches(official):
    assert (len(official.train), len(official.validation), len(official.test)) == (
        50_000,
        0,
        10_000,
    )
    assert official.split_name == "official"
    parts = {"train": np.arange(50_000), "validation": np.arange(0), "test": np.arange(10_000)}
    assert official.split_hash == fingerprint(parts)
    augment = Augmentation(Pixels(official.mean, official.std), Augment(), classes=10, seed=0)
    assert len(TrainingLoader(official.train, augment, batch_size=128, seed=0)) == 390


def test_training_and_validation_share_no_sample_and_leave_none_out(cifar, official):
    data = cifar("cifar10")
    assert contents(data.train, data.validation) == contents(official.train)
    assert contents(data.test) == contents(official.test)
    # CIFAR-10 has no two equal images, so none can lie on both sides
    every = contents(data.train, data.validation, data.test)
    assert max(every.values()) == 1
    assert len(every) == 60_000


def test_mean_and_deviation_are_those_of_the_training_images(official):
    values = np.arange(256) / 255
    for channel, mean, std in zip(range(3), official.mean, official.std, strict=True):
        counts = official.train.images[:, channel].flatten().bincount(minlength=256).numpy()
        exact = np.average(values, weights=counts)
        variance = np.average((values - exact) ** 2, weights=counts)
        # given to four digits
        assert exact == pytest.approx(mean, abs=5e-5)
        assert np.sqrt(variance) == pytest.approx(std, abs=5e-5)


def test_another_seed_keeps_other_images_found_where_the_environment_says(data_root, monkeypatch):
    monkeypatch.setenv("SPIKFORMER_DATA", str(data_root))
    data = load_data("cifar100", split_seed=1, validation=100)
    assert (len(data.train), len(data.validation)) == (49_900, 100)
    assert data.validation.labels.bincount().tolist() == [1] * 100
    assert data.split_name == "validation100-seed1"
    assert data.split_hash not in HASHES.values()


def test_more_validation_than_there_are_images_is_refused(data_root):
    with pytest.raises(ConfigError, match=r"parts of \[50001\] samples .* the 50000 there"):
        load_data("cifar10", data_root, validation=50_001)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_there_is_said_in_a_line(data_root, name):
    said = DATASETS[name].check(data_root)
    assert said == f"{data_root / FOLDERS[name]}, 60000 images, checksums good"


@pytest.mark.parametrize(
    ("name", "file"), [("cifar10", "data_batch_1"), ("cifar10", "test_batch"), ("cifar100", "test")]
)
def test_a_truncated_file_is_one_clear_error(data_root, tmp_path, name, file):
    folder = tmp_path / FOLDERS[name]
    shutil.copytree(
        data_root / folder.name, folder, copy_function=lambda a, b: Path(b).symlink_to(a)
    )
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    (folder / file).write_bytes(content[:-1000])
    for use in (lambda root: DATASETS[name].load(root, Choices()), DATASETS[name].check):
        with pytest.raises(DataError) as caught:
            use(tmp_path)
        assert str(caught.value) == f"{folder} is incomplete or damaged"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_without_its_files_is_one_clear_error(tmp_path, name):
    folder = tmp_path / FOLDERS[name]
    folder.mkdir()
    (folder / "test").write_bytes(b"")
    for use in (lambda root: DATASETS[name].load(root, Choices()), DATASETS[name].check):
        with pytest.raises(DataError) as caught:
            use(tmp_path)
        assert str(caught.value) == f"{folder} is incomplete or damaged"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_missing_folder_is_named_with_what_belongs_there(tmp_path, name):
    archive = f"{FOLDERS[name].replace('-batches-py', '-python')}.tar.gz"
    for use in (lambda root: DATASETS[name].load(root, Choices()), DATASETS[name].check):
        with pytest.raises(DataError) as caught:
            use(tmp_path)
        assert str(caught.value) == (
            f"there is no {FOLDERS[name]} in {str(tmp_path)!r}: "
            f"unpack https://www.cs.toronto.edu/~kriz/{archive} there, or say where it is"
        )


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(DataError, match=r"^there is no folder '.*nowhere'$"):
        load_data("cifar10", tmp_path / "nowhere")


def test_roots_are_looked_for_in_the_argument_then_in_the_environment_then_here(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("SPIKFORMER_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("SPIKFORMER_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(Path("mine")) == Path("mine")
    with pytest.raises(DataError, match=f"there is no cifar-10-batches-py in '{tmp_path}'"):
        load_data("cifar10")
