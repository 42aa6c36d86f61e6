"""Spikformer-8-512 on ImageNet, by the authors' code.

Command   spikformer train imagenet_8_512 --data.root DATA
Hardware  eight GPUs; untried there
Time      not measured
Result    none yet; the paper reports 73.38 %, as the best epoch on its validation pictures

Sources: `imagenet/imagenet.yml` and `train.py` of ZK-Zhou/spikformer, at 6212689. lr, warm-up from
1e-6, 300 + 10 epochs, weight decay, smoothing, mixup 0.8 and cutmix 1.0 by turns in all epochs,
erasing, flip, `rand-m9-mstd0.5-inc1`, bicubic, 8 workers, pictures squashed as a whole: the yml. 24 pictures on each of 8
devices: its README. Drop-path is handed to the model there and never used: 0. Mixed precision:
`train.py`, there fp16. The last epoch reported with the authors' best epoch on test beside it, and
compiled steps: ours. Unverified: all of it, for want of the machines.
"""

from spikformer.recipe import Augment, Data, Model, Optim, Recipe, Trainer


def recipe() -> Recipe:
    return sized("8_512")


def sized(size: str) -> Recipe:
    """The recipe of a size: all are trained alike."""
    return Recipe(
        name=f"imagenet_{size}",
        model=Model(name=f"spikformer_{size}"),
        data=Data(name="imagenet", batch_size=24, validation=0, workers=8),
        augment=Augment(
            flip=0.5,
            rand_augment=True,
            rand_operations="all",
            rand_deviation=0.5,
            mixup=0.8,
            cutmix=1.0,
            erasing=0.25,
        ),
        optim=Optim(
            lr=5e-4,
            min_lr=1e-5,
            warmup_epochs=20,
            warmup_lr=1e-6,
            cooldown_epochs=10,
            weight_decay=0.05,
            label_smoothing=0.1,
        ),
        trainer=Trainer(
            epochs=310, seed=42, precision="bf16", devices=8, compile=True, paper_protocol=True
        ),
    )
