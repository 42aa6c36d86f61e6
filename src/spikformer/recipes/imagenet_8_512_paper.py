"""Spikformer-8-512 on ImageNet, by the paper's words where they differ from the code.

Command   spikformer train imagenet_8_512_paper --data.root DATA
Hardware  eight GPUs; untried there
Time      not measured
Result    none yet; the paper reports 73.38 %, as the best epoch on its validation pictures

Section 4.1: batches of 128 or 256, where the code has 192; 256 is taken, 32 on each of 8 devices. All
else is as in `imagenet_8_512.py`. Unverified: all of it.
"""

import dataclasses

from spikformer.recipe import Recipe
from spikformer.recipes.imagenet_8_512 import sized


def recipe() -> Recipe:
    code = sized("8_512")
    data = dataclasses.replace(code.data, batch_size=32)
    return dataclasses.replace(code, name="imagenet_8_512_paper", data=data)
