"""Spikformer-4-384 on CIFAR-100 for 400 + 10 epochs: the paper's longer run ("400E", table 3).

Command   spikformer train cifar100_400 --data.root DATA
Hardware  one GPU; untried there (a CPU takes more than a week)
Time      not measured in full
Result    none yet; the paper reports 78.21 %, as the best epoch on test

As `cifar100`, where the sources stand; the epochs as in `cifar10_400`.
"""

from dataclasses import replace

from spikformer.recipe import Recipe
from spikformer.recipes import cifar100


def recipe() -> Recipe:
    base = cifar100.recipe()
    return replace(base, name="cifar100_400", trainer=replace(base.trainer, epochs=410))
