import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spikformer.data.randomness import permutation, step_seed, uniforms

SEEDS = st.integers(0, 2**63)


@given(SEEDS, st.integers(0, 10**6))
def test_a_number_depends_on_its_names_and_not_on_its_neighbours(seed, epoch):
    together = uniforms(seed, epoch, np.array([3, 1, 4]), 5)
    alone = uniforms(seed, epoch, np.array([4]), 2)
    assert together[2, :2].tolist() == alone[0].tolist()


@given(SEEDS, st.integers(0, 1000))
def test_numbers_lie_in_the_unit_interval(seed, epoch):
    numbers = uniforms(seed, epoch, np.arange(50), 4)
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_numbers_are_uniform_and_uncorrelated():
    # 200,000 numbers: the mean of each column is 0.5 within 5 standard errors (0.0065), and no
    # two columns, epochs or seeds correlate beyond 5 standard errors (0.011).
    one, later, other = (
        uniforms(seed, epoch, np.arange(50_000), 4) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert np.abs(one.mean(0) - 0.5).max() < 0.0065
    counts, _ = np.histogram(one, bins=20, range=(0, 1))
    assert np.abs(counts / 10_000 - 1).max() < 0.05
    columns = np.concatenate([one, later, other], axis=1)
    correlation = np.corrcoef(columns.T) - np.eye(12)
    assert np.abs(correlation).max() < 0.023


@given(SEEDS, st.integers(0, 1000), st.integers(1, 200))
def test_a_permutation_holds_every_sample_once(seed, epoch, length):
    assert sorted(permutation(seed, epoch, length)) == list(range(length))


def test_epochs_are_ordered_differently():
    assert permutation(0, 0, 100).tolist() != permutation(0, 1, 100).tolist()


@given(SEEDS, st.integers(0, 10**7))
def test_a_step_seed_is_one_that_torch_takes(seed, step):
    assert 0 <= step_seed(seed, step) < 2**63
