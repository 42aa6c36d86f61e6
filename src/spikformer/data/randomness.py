"""Randomness without history: every number is a function of (seed, epoch, sample).

A generator's state depends on all that was drawn before, which no resumed run repeats. These
numbers depend on their names alone, whatever the order, the workers and the ranks.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
ORDER, BATCH, STEP = 0x0DE4, 0xBA7C, 0x5EED
"""Set streams apart: what comes when must say nothing of what is done to it."""


def uniforms(
    seed: int, epoch: int, samples: NDArray[np.integer], count: int
) -> NDArray[np.float64]:
    """[n, count] numbers in [0, 1), for the given samples.

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), its output function chained over the four names.
    """
    rows = _mix(_mix(_mix(_word(seed)) + _word(epoch)) + samples.astype(np.uint64))
    words = _mix(rows[:, None] + np.arange(count, dtype=np.uint64) * _word(0xD1B54A33))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """An order of `length` samples for one epoch, by numbers that nothing else draws."""
    return np.argsort(uniforms(seed ^ ORDER, epoch, np.arange(length), 1)[:, 0], kind="stable")


def batch_generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """A generator for what one batch draws as a whole."""
    word = _mix(_mix(_mix(_word(seed) + _word(BATCH)) + _word(epoch)) + _word(batch))
    return np.random.Generator(np.random.PCG64(int(word[0])))


def step_seed(seed: int, step: int, slot: int = 0) -> int:
    """A seed for what is drawn within one training step, in [0, 2^63).

    Args:
        step: Of the optimizer, from 0.
        slot: Which of the batches that make this step, over all ranks.
    """
    word = _mix(_mix(_word(seed) + _word(STEP)) + _word(step))
    return int((_mix(word + _word(slot)) if slot else word)[0] >> np.uint64(1))


def _word(value: int) -> Words:
    # An array of one: arrays wrap around in silence, where NumPy's scalars warn.
    return np.array([value & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)


def _mix(x: Words) -> Words:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
