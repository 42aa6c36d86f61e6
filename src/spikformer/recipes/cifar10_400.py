"""Spikformer-4-384 on CIFAR-10 for 400 + 10 epochs: the paper's longer run ("400E", table 3).

Command   spikformer train cifar10_400 --data.root DATA
Hardware  one GPU; untried there (a CPU takes more than a week)
Time      not measured in full
Result    none yet; the paper reports 95.51 %, as the best epoch on test

As `cifar10`, where the sources stand; 400 epochs and 10 of cool-down: the paper's table 3 and timm's
scheduler, which adds them.
"""

from dataclasses import replace

from spikformer.recipe import Recipe
from spikformer.recipes import cifar10


def recipe() -> Recipe:
    base = cifar10.recipe()
    return replace(base, name="cifar10_400", trainer=replace(base.trainer, epochs=410))
