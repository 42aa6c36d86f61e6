"""A hook for steps of the optimizer; Lightning has one for batches, several of which may be a step."""

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

if TYPE_CHECKING:
    from spikformer.training.module import Classifier


class StepCallback(Callback):
    """Calls `on_step` after every step."""

    def on_step(self, trainer: Trainer, module: "Classifier") -> None:
        raise NotImplementedError

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        module = cast("Classifier", pl_module)
        if module.ends_a_step(batch_idx):
            self.on_step(trainer, module)
