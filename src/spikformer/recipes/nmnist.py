"""A small Spikformer on N-MNIST: handwritten digits seen by an event camera.

Command   spikformer train nmnist --data.root DATA
Hardware  two CPU cores
Time      4 to 6 minutes, both cores of an AMD EPYC, on the excerpt of 1,000 recordings
Result    93 % on its 100 test recordings, median of seeds 0-2 (benchmarks/results/ledger.csv)

Every value is our choice: the paper has no such data set. A thousand recordings are few, so they are
turned, resized and shifted a little; the last epoch is reported.
"""

from spikformer.recipe import Augment, Data, Model, Optim, Recipe, Trainer


def recipe() -> Recipe:
    return Recipe(
        name="nmnist",
        model=Model(name="spikformer_2_256_dvs", dim=64, heads=4),
        data=Data(name="nmnist", batch_size=32, frames=10, side=48, validation=0),
        augment=Augment(degrees=10, scale=0.1, translate=0.06),
        optim=Optim(lr=2e-3, min_lr=2e-5, weight_decay=0.05, label_smoothing=0.1),
        trainer=Trainer(epochs=45),
    )
