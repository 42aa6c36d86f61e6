"""What happens around the steps: progress, the curve, weights that are kept."""

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from spikformer._files import replacing
from spikformer.data.loader import TrainingLoader
from spikformer.errors import NotFiniteError

CURVE_COLUMNS = ("epoch", "lr", "train_loss", "validation_loss", "validation_top1", "seconds")


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their target, flushed, then put in its place."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        with replacing(path) as partial:
            torch.save(checkpoint, partial)


class Logs(TensorBoardLogger):
    """TensorBoard's file in the run's own folder, and no other: the recipe is in the record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    def save(self) -> None:
        """Lightning would write an empty `hparams.yaml` here."""


class OverallProgress(Callback):
    """One bar for the whole run, with the time that is left."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = trainer.num_training_batches * (trainer.max_epochs or 1)
        self.task = self.progress.add_task(
            "training", total=total, completed=trainer.global_step, state=""
        )
        self.progress.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.progress.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        top1 = float(trainer.callback_metrics["validation/top1"])
        state = f"epoch {trainer.current_epoch + 1}, validation {top1:.2%}"
        self.progress.update(self.task, state=state)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.progress.stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.progress.stop()


class Curve(Callback):
    """One line of `curve.csv` an epoch. A resumed run goes on after the last epoch it kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        kept = [row for row in read_curve(self.path) if row["epoch"] < trainer.current_epoch]
        with replacing(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CURVE_COLUMNS)
            writer.writerows(row.values() for row in kept)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.monotonic()
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        values = (
            trainer.current_epoch,
            self.rate,
            float(metrics["train/loss"]),
            float(metrics["validation/loss"]),
            float(metrics["validation/top1"]),
            round(time.monotonic() - self.started, 3),
        )
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(values)
        if not math.isfinite(values[2]):
            raise NotFiniteError(
                f"the training loss of epoch {trainer.current_epoch} is {values[2]}; "
                f"the last good weights are in {self.path.parent}"
            )


class KeepWeights(Callback):
    """Writes `last` after every epoch, and `best` when validation says so.

    Best is the highest validation accuracy, of equal ones the lowest validation loss.

    Args:
        save: Called with (`last` or `best`, epoch, validation accuracy).
    """

    def __init__(self, save: Callable[[str, int, float], None]) -> None:
        self.save = save
        self.best = (-1.0, -math.inf)
        self.best_epoch = -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        top1 = float(trainer.callback_metrics["validation/top1"])
        loss = float(trainer.callback_metrics["validation/loss"])
        if not math.isfinite(float(trainer.callback_metrics["train/loss"])):
            return
        self.save("last", trainer.current_epoch, top1)
        if (top1, -loss) > self.best:
            self.best, self.best_epoch = (top1, -loss), trainer.current_epoch
            self.save("best", trainer.current_epoch, top1)

    def state_dict(self) -> dict[str, Any]:
        return {"top1": self.best[0], "loss": -self.best[1], "epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["top1"], -state_dict["loss"]
        self.best_epoch = state_dict["epoch"]


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


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a `curve.csv`; none when there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"])} for row in rows]
