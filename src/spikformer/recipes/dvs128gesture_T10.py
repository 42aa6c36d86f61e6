"""Spikformer-2-256 on DVS128 Gesture in 10 frames, by the paper: no code of it was published.

Command   spikformer train dvs128gesture_T10 --data.root DATA
Hardware  one GPU; untried there
Time      not measured
Result    none yet; the paper reports 96.9 %, as the best epoch on test

Values and sources: `dvs128gesture_T16.py`. Unverified: all of it.
"""

from spikformer.recipe import Recipe
from spikformer.recipes.dvs128gesture_T16 import frames


def recipe() -> Recipe:
    return frames(10)
