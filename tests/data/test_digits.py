import numpy as np
import pytest
import torch

from spikformer.data import DATASETS, load_data
from spikformer.data import digits as digits_module
from spikformer.errors import ConfigError, DataError

SPLIT_HASH = "4156c582d1580002ea960b2c9e8eba4edb1464b935a25589e5616bf630dd1757"


def test_the_digits_are_the_1797_of_the_uci_test_set():
    images, labels = digits_module._read()
    assert images.shape == (1797, 8, 8)
    assert images.max() == 16
    # samples of each class, as scikit-learn's description lists them
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # the first row of the first image, a zero
    assert images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_enlarging_keeps_the_mean_and_the_range():
    images, _ = digits_module._read()
    data = load_data("digits")
    assert data.input_size == (1, 16, 16)
    pixels = torch.cat([data.train.images, data.validation.images, data.test.images]).float()
    assert pixels.max() <= 255
    assert pixels.mean().item() == pytest.approx(images.mean() * 255 / 16, abs=0.5)


def test_the_default_split_is_the_published_one():
    data = load_data("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1077, 180, 540)
    assert data.split_hash == SPLIT_HASH
    assert data.test.labels.bincount().min() >= 52


def test_the_splits_share_no_sample():
    images, labels = digits_module._read()
    together = load_data("digits")
    parts = [together.train, together.validation, together.test]
    assert sum(len(part) for part in parts) == len(labels)
    distinct = {row.tobytes() for row in images.reshape(len(images), -1)}
    seen = [{image.numpy().tobytes() for image in part.images} for part in parts]
    assert len(distinct) == len(images)  # no twin could hide a leak
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_another_seed_splits_otherwise_and_says_so():
    other = load_data("digits", split_seed=1)
    assert other.split_hash != SPLIT_HASH
    assert other.split_name == "validation180-seed1"


def test_a_damaged_file_is_noticed(monkeypatch):
    monkeypatch.setattr(digits_module, "SHA256", "0" * 64)
    with pytest.raises(DataError, match="damaged"):
        load_data("digits")


def test_an_unknown_data_set_lists_the_near_ones():
    with pytest.raises(ConfigError, match="unknown data set 'digit'; did you mean digits"):
        load_data("digit")


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_checks_itself(name, tmp_path):
    try:
        said = DATASETS[name].check(tmp_path)
    except DataError as error:
        said = str(error)
    assert said
