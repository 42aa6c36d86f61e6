import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spikformer.data.randomness import batch_generator, permutation, step_seed, uniforms

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


@given(SEEDS, st.integers(0, 10**7), st.integers(0, 10**4))
def test_a_slots_seed_is_one_that_torch_takes(seed, step, slot):
    assert 0 <= step_seed(seed, step, slot) < 2**63


def test_every_slot_of_every_step_has_a_seed_of_its_own():
    seeds = {
        step_seed(seed, step, slot)
        for seed in range(3)
        for step in range(100)
        for slot in range(16)
    }
    assert len(seeds) == 3 * 100 * 16


@given(SEEDS, st.integers(0, 10**7))
def test_the_first_slot_is_the_step_itself(seed, step):
    # so one batch a step draws the same, whether slots are spoken of or not
    assert step_seed(seed, step, 0) == step_seed(seed, step)


@given(SEEDS, st.integers(0, 1000), st.integers(0, 10**4))
def test_a_batch_draws_the_same_whenever_it_is_drawn(seed, epoch, batch):
    one, again = (batch_generator(seed, epoch, batch) for _ in range(2))
    assert one is not again
    assert one.random(5).tolist() == again.random(5).tolist()


def test_other_seeds_epochs_and_batches_draw_otherwise():
    draws = {
        batch_generator(seed, epoch, batch).random()
        for seed in range(10)
        for epoch in range(10)
        for batch in range(10)
    }
    assert len(draws) == 1000


def test_first_draws_of_successive_batches_are_uniform_and_uncorrelated():
    draws = np.array([batch_generator(0, 0, batch).random(2) for batch in range(5000)])
    # five standard errors of 5,000 numbers: 0.0204 of a mean, 0.071 of a correlation
    assert np.abs(draws.mean(0) - 0.5).max() < 0.0204
    columns = np.column_stack([draws[:-1], draws[1:]])
    assert np.abs(np.corrcoef(columns.T) - np.eye(4)).max() < 0.071
    counts, _ = np.histogram(draws[:, 0], bins=10, range=(0, 1))
    assert np.abs(counts - 500).max() < 5 * np.sqrt(450)


def test_batches_draw_nothing_that_global_generators_decide():
    state = np.random.get_state()
    first = batch_generator(1, 2, 3).random()
    np.random.seed(99)
    assert batch_generator(1, 2, 3).random() == first
    np.random.set_state(state)
