"""What happens around the steps: progress, the curve, the log."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from spikformer.data.loader import EvaluationLoader, Ranks, TrainingLoader
from spikformer.nn import share_statistics
from spikformer.training._steps import StepCallback
from spikformer.training.run import CURVE_COLUMNS, read_curve

if TYPE_CHECKING:
    from spikformer.training.module import Classifier


class Logs(TensorBoardLogger):
    """TensorBoard's file in the run's own folder, and no other: the recipe is in the record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    def save(self) -> None:
        """Lightning would write an empty `hparams.yaml` here."""


class OverallProgress(StepCallback):
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

    def on_step(self, trainer: Trainer, module: "Classifier") -> None:
        self.progress.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = f"epoch {trainer.current_epoch}"
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


class StepLog(StepCallback):
    """Every so many steps: is the loss still a number, and what to tell TensorBoard."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_step(self, trainer: Trainer, module: "Classifier") -> None:
        if trainer.global_step % self.every:
            return
        module.check_finite()
        loss, rates = module.epoch_loss(), module.rates.read()
        values = {"train/epoch_loss_so_far": loss} | {
            f"rate/{layer}": rate for layer, rate in rates.items()
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)


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
