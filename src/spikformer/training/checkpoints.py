"""What is kept of a run: weights, and where to go on."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from spikformer._files import replacing
from spikformer.data.loader import TrainingLoader
from spikformer.training._steps import StepCallback

if TYPE_CHECKING:
    from spikformer.training.module import Classifier

State = dict[str, Tensor]
Metrics = dict[str, float]


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their target, flushed, then put in its place."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        with replacing(path) as partial:
            content = io.BytesIO()  # PyTorch hides what the system says of a full disk
            torch.save(checkpoint, content)
            partial.write_bytes(content.getbuffer())


class KeepWeights(Callback):
    """Writes `last` after every epoch, and `best` when validation says so.

    Best is the highest validation accuracy, of equal ones the lowest validation loss.

    Args:
        save: Called with (`last` or `best`, weights, epoch, metrics).
    """

    def __init__(self, save: Callable[[str, State, int, Metrics], None]) -> None:
        self.save = save
        self.best = (-1.0, -math.inf)
        self.best_epoch = -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast("Classifier", pl_module)
        module.check_finite()
        state = trainer.strategy.lightning_module_state_dict()  # whole, also when it is spread
        kept = "model." if module.average is None else "average.module."
        weights = {k.removeprefix(kept): v for k, v in state.items() if k.startswith(kept)}
        metrics = {name: x for name, x in module.evaluated.items() if name.endswith("top1")}
        if trainer.is_global_zero:
            self.save("last", weights, trainer.current_epoch, metrics)
        if "validation_top1" not in metrics:
            return
        score = metrics["validation_top1"], -module.evaluated["validation_loss"]
        if score > self.best:
            self.best, self.best_epoch = score, trainer.current_epoch
            if trainer.is_global_zero:
                self.save("best", weights, trainer.current_epoch, metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"top1": self.best[0], "loss": -self.best[1], "epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["top1"], -state_dict["loss"]
        self.best_epoch = state_dict["epoch"]


class Checkpoints(StepCallback, Checkpoint):
    """Writes where to go on: every so many steps, and after every epoch when all else is written.

    Args:
        path: Of the file.
        every: Steps between those within an epoch.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_step(self, trainer: Trainer, module: "Classifier") -> None:
        # One at the last batch would come before validation; the epoch's own comes soon after it.
        if trainer.global_step % self.every == 0 and not trainer.is_last_batch:
            self._save(trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, cast("Classifier", pl_module))

    def _save(self, trainer: Trainer, module: "Classifier") -> None:
        module.check_finite()
        module.share_sums()
        trainer.save_checkpoint(self.path)


class DataPlace(Callback):
    """Keeps the loader's place in checkpoints, and sends it back there.

    Lightning keeps it too, but forgets to restore it after an epoch's end (2.6.6).
    """

    def __init__(self, loader: TrainingLoader) -> None:
        self.loader = loader

    def state_dict(self) -> dict[str, Any]:
        return dict(self.loader.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loader.load_state_dict(state_dict)
