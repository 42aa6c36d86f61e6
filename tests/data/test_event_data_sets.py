import numpy as np
import pytest
import torch
from helpers.recordings import (
    events,
    rows,
    write_cifar10dvs,
    write_dvs128gesture,
    write_nmnist,
)

from spikformer.data import DATASETS, load_data
from spikformer.data import _recorded as recorded
from spikformer.data._splits import check_disjoint, front, whole_groups
from spikformer.data.cifar10dvs import published
from spikformer.data.dvs128gesture import CLASSES as GESTURES
from spikformer.data.events import read_events
from spikformer.errors import ConfigError, DataError

EVERY = [pytest.param(name) for name in ("cifar10dvs", "dvs128gesture", "nmnist")]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch):
    monkeypatch.delenv(recorded.CACHE_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Small data sets in the layouts of the official archives."""
    root = tmp_path_factory.mktemp("official")
    for write in (write_cifar10dvs, write_dvs128gesture, write_nmnist):
        write(root)
    return root


@pytest.mark.parametrize("name", EVERY)
def test_splits_are_whole_named_and_proven(root, name):
    data = load_data(name, root, validation=4)
    sizes = {"cifar10dvs": (8996, 4, 1000), "dvs128gesture": (22, 11, 11), "nmnist": (36, 4, 20)}
    assert (len(data.train), len(data.validation), len(data.test)) == sizes[name]
    assert data.split_name.endswith(f"validation{sizes[name][1]}-seed0")
    assert data.split_hash != load_data(name, root).split_hash
    assert data.split_hash == load_data(name, root, validation=4).split_hash
    assert data.split_hash != load_data(name, root, validation=4, split_seed=1).split_hash
    assert data.train.images.shape[1:] == (DATASETS[name].frames, 2, *DATASETS[name].size)
    assert data.input_size == (2, *DATASETS[name].size)
    batch = data.test.images[torch.arange(2)]
    assert batch.shape == (2, *data.test.images.shape[1:])
    assert batch.sum() > 0


@pytest.mark.parametrize("name", EVERY)
def test_frames_may_be_chosen(root, name):
    by_time = load_data(name, root, frames=5, frames_by="time")
    by_count = load_data(name, root, frames=5)
    assert by_time.train.images.shape[1] == 5
    one = torch.zeros(1, dtype=torch.int64)
    first = by_time.train.images[one], by_count.train.images[one]
    assert first[0].sum() == first[1].sum() > 0
    assert not torch.equal(*first)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_missing_is_said(tmp_path, name):
    for use in (lambda: load_data(name, tmp_path), lambda: DATASETS[name].check(tmp_path)):
        with pytest.raises(DataError, match=r"^there is no .* in '.*': .*, or say where (it|they)"):
            use()


def test_front90_tests_on_the_files_that_the_authors_tested_on():
    numbers = sorted(range(1000), key=lambda n: f"cifar10_cat_{n}.npz")  # as text
    train, test = front(np.zeros(1000, int), 0.9)
    assert sorted(numbers[i] for i in test) == [*range(91, 100), *range(909, 1000)]
    assert len(train) == 900


def test_cifar10dvs_is_cut_by_the_names_of_its_files(root):
    found = DATASETS["cifar10dvs"].find(root, load_choices(split="front90"))
    names = sorted(f"cifar10_cat_{n}" for n in range(1000))
    cats = [r.path for r in found.recordings if r.path.parent.name == "cat"]
    assert [path.stem for path in cats] == names
    tested = {found.recordings[i].path.stem for i in found.test}
    assert {name for name in tested if "_cat_" in name} == set(names[900:])


def test_cifar10dvs_must_be_whole(root, tmp_path):
    import os
    import shutil

    shutil.copytree(root / "cifar10dvs", tmp_path / "cifar10dvs", copy_function=os.link)
    cat = tmp_path / "cifar10dvs" / "cat"
    (cat / "cifar10_cat_17.aedat").unlink()
    with pytest.raises(DataError, match=r"has 999 recordings and not those .* 0 to 999: 17 is"):
        load_data("cifar10dvs", tmp_path)
    (cat / "cifar10_cat_5.aedat").rename(cat / "cifar10_cat_x.aedat")
    with pytest.raises(DataError, match=r"cifar10_cat_x\.aedat has no number"):
        load_data("cifar10dvs", tmp_path)


def test_other_files_are_another_split(root, tmp_path):
    write_nmnist(tmp_path)
    before = load_data("nmnist", tmp_path)
    assert before.split_hash == load_data("nmnist", root).split_hash  # wherever the folder is
    one = tmp_path / "nmnist" / "Train" / "3" / "00000.bin"
    one.rename(one.with_name("00009.bin"))
    assert load_data("nmnist", tmp_path).split_hash != before.split_hash


def test_one_folder_under_two_names_is_a_leak(tmp_path):
    write_nmnist(tmp_path)
    test = tmp_path / "nmnist" / "Test"
    test.rename(tmp_path / "away")
    test.symlink_to(tmp_path / "nmnist" / "Train")
    with pytest.raises(DataError, match="is in both train and test: the split leaks"):
        load_data("nmnist", tmp_path)


def load_choices(**chosen):
    from spikformer.data import Choices

    return Choices(**chosen)


def test_random90_is_drawn_by_its_seed_and_has_every_class(root):
    hashes = set()
    for seed in (0, 1):
        data = load_data("cifar10dvs", root, split="random90", split_seed=seed)
        assert data.split_name == f"random90-seed{seed}"
        assert torch.bincount(data.test.labels).tolist() == [100] * 10
        hashes.add(data.split_hash)
    assert len(hashes | {load_data("cifar10dvs", root).split_hash}) == 3
    assert load_data("cifar10dvs", root, split="random90-seed1").split_hash in hashes


def test_cifar10dvs_is_turned_as_the_published_data_path_turns_it(root):
    turned = published(events((0, 3, 10, 1), (1, 127, 0, 0)))
    assert rows(turned) == [(0, 117, 124, 0), (1, 127, 0, 1)]
    data = load_data("cifar10dvs", root, frames=1)
    seen = data.train.images[torch.zeros(1, dtype=torch.int64)][0, 0]
    raw = read_events(root / "cifar10dvs" / "airplane" / "cifar10_airplane_0.aedat")
    want = torch.zeros(2, 128, 128)
    for _, x, y, p in rows(raw):
        want[1 - p, 127 - x, 127 - y] += 1
    assert torch.equal(seen, want)


def test_gestures_are_cut_by_their_labels_and_never_between_splits(root):
    data = load_data("dvs128gesture", root, validation=1)
    assert data.test.labels.tolist() == list(range(11))
    assert data.classes == GESTURES
    assert data.split_name == "official-validation11-seed0"  # a recording as a whole
    whole = read_events(root / "DvsGesture" / "user24_led.aedat")
    counts = data.test.images[torch.arange(11)].sum((1, 2, 3, 4))
    assert counts.tolist() == [len(whole.between(800 * k, 800 * k + 700)) for k in range(11)]


def test_the_real_labels_of_a_gesture_recording(data_root, tmp_path):
    from spikformer.data.dvs128gesture import _labels

    clips, classes = _labels(data_root / "dvs" / "small_samples" / "user01_natural_labels.csv")
    assert classes == [0, 1, 2, 4, 3, 5, 6, 7, 7, 8, 9, 10]
    assert clips[0] == (53036986, 59508469)


def test_the_real_lists_of_trials(data_root):
    folder = data_root / "dvs" / "small_samples"
    trials = [(folder / f"trials_to_{p}.txt").read_text().split() for p in ("train", "test")]
    assert [len(t) for t in trials] == [98, 24]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class,start,end\n1,2\n", "is damaged"),
        ("class,start,end\none,2,3\n", "is damaged"),
        ("class,start,end\n12,2,3\n", "names a class that is none of 1 to 11"),
    ],
)
def test_damaged_labels_are_one_clear_error(tmp_path, content, message):
    from spikformer.data.dvs128gesture import _labels

    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=f"labels.csv {message}"):
        _labels(tmp_path / "labels.csv")


def test_a_source_in_two_parts_is_a_leak():
    check_disjoint({"train": ["a", "a", "b"], "test": ["c"]})
    with pytest.raises(DataError, match="b is in both train and test: the split leaks"):
        check_disjoint({"train": ["a", "a", "b"], "test": ["c", "b"]})


def test_a_trial_in_both_lists_is_a_leak(root, tmp_path):
    import shutil

    shutil.copytree(root / "DvsGesture", tmp_path / "DvsGesture")
    (tmp_path / "DvsGesture" / "trials_to_test.txt").write_text("user01_led.aedat\n")
    with pytest.raises(DataError, match="user01 is in both"):
        load_data("dvs128gesture", tmp_path)


def test_groups_are_taken_whole():
    groups = ["a"] * 3 + ["b"] * 2 + ["c"] * 4
    for seed in range(5):
        chosen, rest = whole_groups(groups, 3, seed)
        assert {groups[i] for i in chosen}.isdisjoint({groups[i] for i in rest})
        assert len(chosen) >= 3
    assert len(whole_groups(groups, 0, 0)[0]) == 0
    with pytest.raises(ConfigError, match="leave none over"):
        whole_groups(groups, 9, 0)


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("cifar10dvs", {"split": "front91"}, "unknown split 'front91'; did you mean front90"),
        ("nmnist", {"split": "front90"}, "unknown split 'front90'"),
        ("nmnist", {"validation": 41}, "validation must be at most 40, got 41"),
        ("digits", {"frames": 4}, "digits has no frames to choose"),
        ("digits_dvs", {"split": "front90"}, "digits_dvs has no split to choose"),
    ],
)
def test_choices_that_cannot_be_met_are_refused(root, name, choices, message):
    with pytest.raises(ConfigError, match=message):
        load_data(name, root, **choices)


def test_the_small_nmnist_is_read_by_its_lists(data_root):
    data = load_data("nmnist", data_root / "dvs")
    assert (len(data.train), len(data.test), data.split_name) == (1000, 100, "small")
    assert data.train.labels[:4].tolist() == [5, 0, 4, 1]
    assert data.test.labels[:4].tolist() == [7, 2, 1, 0]


def test_digits_are_filmed_as_they_are_split():
    still, filmed = load_data("digits"), load_data("digits_dvs", frames=4)
    assert filmed.split_hash == still.split_hash
    assert torch.equal(filmed.test.labels, still.test.labels)
    assert filmed.train.images.shape == (len(still.train), 4, 2, 16, 16)
    assert (filmed.train.images.sum((1, 2, 3, 4)) > 100).all()
    assert load_data("digits_dvs", validation=0).validation.images.shape == (0, 8, 2, 16, 16)
