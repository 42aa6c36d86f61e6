"""The training step, for Lightning."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from timm.optim import param_groups_weight_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from spikformer.data.randomness import step_seed
from spikformer.training.recipe import Recipe


class Classifier(LightningModule):
    """A model, its loss and its optimizer, as a recipe has them.

    What is drawn within a step (drop-path) depends on (seed, step) alone: the generator is seeded
    anew at every step, so that an interrupted run draws what the uninterrupted one drew.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        torch.manual_seed(step_seed(self.recipe.trainer.seed, self.global_step))
        images, labels = batch
        smoothing = self.recipe.optim.label_smoothing
        loss = F.cross_entropy(self.model(images), labels, label_smoothing=smoothing)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.model(images)
        correct = (logits.argmax(1) == labels).float().mean()
        loss = F.cross_entropy(logits, labels)
        metrics = {"validation/top1": correct, "validation/loss": loss}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        optim = self.recipe.optim
        groups = param_groups_weight_decay(self.model, optim.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=optim.lr)

        def relative_rate(epoch: int) -> float:
            return optim.lr_at(epoch, self.recipe.trainer.epochs) / optim.lr

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, relative_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "epoch"},
        }
