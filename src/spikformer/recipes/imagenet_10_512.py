"""Spikformer-10-512 on ImageNet, by the authors' code.

Command   spikformer train imagenet_10_512 --data.root DATA
Hardware  eight GPUs; untried there
Time      not measured
Result    none yet; the paper reports 73.68 %, as the best epoch on its validation pictures

Values and sources: `imagenet_8_512.py`; the authors' yml names that size alone, and the paper says
nothing that differs for this one. The 8 heads are our choice. Unverified: all of it.
"""

from spikformer.recipe import Recipe
from spikformer.recipes.imagenet_8_512 import sized


def recipe() -> Recipe:
    return sized("10_512")
