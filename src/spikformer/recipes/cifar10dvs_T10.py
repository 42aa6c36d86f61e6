"""Spikformer-2-256 on CIFAR10-DVS in 10 frames, by the authors' code.

Command   spikformer train cifar10dvs_T10 --data.root DATA
Hardware  one GPU; untried there
Time      not measured
Result    none yet; the paper reports 78.9 %, as the best epoch on test

Values and sources: `cifar10dvs_T16.py`. Unverified: all of it, for want of the recordings.
"""

from spikformer.recipe import Recipe
from spikformer.recipes.cifar10dvs_T16 import frames


def recipe() -> Recipe:
    return frames(10)
