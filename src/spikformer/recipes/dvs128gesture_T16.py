"""Spikformer-2-256 on DVS128 Gesture in 16 frames, by the paper: no code of it was published.

Command   spikformer train dvs128gesture_T16 --data.root DATA
Hardware  one GPU; untried there
Time      not measured
Result    none yet; the paper reports 98.3 %, as the best epoch on test

Section 4.2: 200 epochs, batch 16, AdamW with a cosine, 8 heads, learnable scale, max-pool after Q and
K, no augmentation. Its lr of 0.1 is taken for the slip that it is on CIFAR10-DVS: 1e-3. Warm-up,
cool-down, weight decay, smoothing, official split, frames of equal count: the nearest public recipe,
`dvs128-gesture` of the co-authored Spikingformer. Seed, precision, workers, the last epoch reported:
ours. Unverified: all of it.
"""

from spikformer.recipe import Data, Model, Optim, Recipe, Trainer


def recipe() -> Recipe:
    return frames(16)


def frames(number: int) -> Recipe:
    """The recipe for a number of frames T."""
    return Recipe(
        name=f"dvs128gesture_T{number}",
        model=Model(name="spikformer_2_256_gesture"),
        data=Data(name="dvs128gesture", frames=number, batch_size=16, validation=0, workers=8),
        optim=Optim(
            lr=1e-3,
            min_lr=1e-5,
            warmup_epochs=10,
            warmup_lr=1e-5,
            cooldown_epochs=10,
            weight_decay=0.06,
            label_smoothing=0.1,
        ),
        trainer=Trainer(epochs=200, seed=2021, precision="bf16", paper_protocol=True),
    )
