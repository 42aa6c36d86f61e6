import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikformer.data._splits import fingerprint, stratified
from spikformer.errors import ConfigError


def test_every_part_holds_every_class_in_its_share():
    labels = np.repeat([0, 1], [80, 40])
    first, second, rest = stratified(labels, (30, 60), seed=3)
    assert [np.bincount(labels[part]).tolist() for part in (first, second, rest)] == [
        [20, 10],
        [40, 20],
        [20, 10],
    ]


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.integers(0, 2**32), st.data())
def test_parts_are_disjoint_and_leave_nothing_out(labels, seed, data):
    sizes = [data.draw(st.integers(0, len(labels) // 2)) for _ in range(2)]
    parts = stratified(np.array(labels), sizes, seed)
    assert [len(part) for part in parts[:-1]] == sizes
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))


def test_a_seed_always_gives_the_same_split_and_another_seed_another():
    labels = np.arange(100) % 10
    first, again, other = (stratified(labels, (30,), seed)[0] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_parts_larger_than_the_whole_are_refused():
    with pytest.raises(ConfigError, match=r"\[12\] samples need more than the 10"):
        stratified(np.zeros(10, int), (12,), seed=0)


def test_a_fingerprint_depends_on_which_samples_are_where_and_not_on_their_order():
    parts = {"train": np.array([1, 2]), "test": np.array([3])}
    assert fingerprint(parts) == fingerprint({"test": np.array([3]), "train": np.array([2, 1])})
    assert fingerprint(parts) != fingerprint({"train": np.array([1, 3]), "test": np.array([2])})
    assert fingerprint(parts) != fingerprint({"train": np.array([3]), "test": np.array([1, 2])})
