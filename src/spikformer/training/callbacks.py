"""What happens around the steps: progress, the curve, weights that are kept."""

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
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
from torch import Tensor

from spikformer._files import replacing
from spikformer.data.loader import EvaluationLoader, Ranks, TrainingLoader
from spikformer.nn import share_statistics
from spikformer.training.run import CURVE_COLUMNS, read_curve

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
        steps = trainer.num_training_batches // trainer.accumulate_grad_batches
        total = int(steps) * (trainer.max_epochs or 1)
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
        state = f"epoch {trainer.current_epoch + 1}"
        if "validation/top1" in trainer.callback_metrics:
            state += f", validation {float(trainer.callback_metrics['validation/top1']):.2%}"
        self.progress.update(self.task, state=state)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.progress.stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.progress.stop()


class Curve(Callback):
    """One line of `curve.csv` an epoch. A resumed run goes on after the last epoch it kept.

    Args:
        path: Of the file.
        loader: Says how long it was waited for.
    """

    def __init__(self, path: Path, loader: TrainingLoader) -> None:
        self.path = path
        self.loader = loader
        self.earlier = 0.0
        self.waited = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)
        if trainer.is_global_zero:
            kept = [row for row in read_curve(self.path) if row["epoch"] < trainer.current_epoch]
            self._write(kept)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.earlier = self.waited = 0.0
        self._begin(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast("Classifier", pl_module)
        module.share_sums()
        measured = {
            "epoch": trainer.current_epoch,
            "lr": self.rate,
            "train_loss": module.epoch_loss(),
            "firing_rate": module.rates.mean(),
            "seconds": round(self._seconds(), 3),
            "waiting": round((self.waited + self.loader.waited) / self._seconds(), 4),
            **module.evaluated,
        }
        if trainer.is_global_zero:
            self._write([*read_curve(self.path), measured])

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds(), "waited": self.waited + self.loader.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier, self.waited = state_dict["seconds"], state_dict["waited"]

    def _begin(self, trainer: Trainer) -> None:
        self.started = time.monotonic()
        self.loader.waited = 0.0
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def _seconds(self) -> float:
        """Of this epoch, also those before an interruption."""
        return self.earlier + time.monotonic() - self.started

    def _write(self, rows: Sequence[dict[str, float]]) -> None:
        with replacing(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, CURVE_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


class StepLog(Callback):
    """Every so many steps: is the loss still a number, and what to tell TensorBoard."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not _ends_a_step(trainer, batch_idx) or trainer.global_step % self.every:
            return
        module = cast("Classifier", pl_module)
        module.check_finite()
        loss, rates = module.epoch_loss(), module.rates.read()
        values = {"train/epoch_loss_so_far": loss} | {
            f"rate/{layer}": rate for layer, rate in rates.items()
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)


class Checkpoints(Checkpoint):
    """Writes where to go on: every so many steps, and after every epoch when all else is written.

    Args:
        path: Of the file.
        every: Steps between those within an epoch.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # One at the last batch would come before validation; the epoch's own comes soon after it.
        last = batch_idx + 1 == trainer.num_training_batches
        if _ends_a_step(trainer, batch_idx) and trainer.global_step % self.every == 0 and not last:
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast("Classifier", pl_module)
        module.check_finite()
        module.share_sums()
        trainer.save_checkpoint(self.path)


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


class Together(Callback):
    """Tells the loaders and norms which process this is, once the processes know each other."""

    def __init__(
        self, training: TrainingLoader, evaluation: Sequence[EvaluationLoader], *, share: bool
    ) -> None:
        self.training = training
        self.evaluation = evaluation
        self.share = share

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        ranks = Ranks(trainer.global_rank, trainer.world_size)
        for loader in (self.training, *self.evaluation):
            loader.ranks = ranks
        if self.share and ranks.world > 1:
            share_statistics(cast("Classifier", pl_module).model)


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


def _ends_a_step(trainer: Trainer, batch_idx: int) -> bool:
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0
