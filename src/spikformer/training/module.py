"""The training step, for Lightning."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from lightning.pytorch import LightningModule
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from spikformer.data.loader import Batch
from spikformer.data.pixels import Targets
from spikformer.data.randomness import step_seed
from spikformer.errors import NotFiniteError
from spikformer.models import Spikformer
from spikformer.probe import RateMeter
from spikformer.recipe import Optim, Recipe
from spikformer.training._compiling import compiled
from spikformer.training._types import at_least_float32

NEVER = 2**62
"""No step: later than every one."""
WRAPPED = "_fsdp_wrapped_module."
"""What FSDP writes into names; the parameters behind them are flat, whatever they were."""
TET_LOGIT = 1.0
"""What the second term of the TET loss draws every logit to."""


class Classifier(LightningModule):
    """A model, its loss and its optimizer, as a recipe has them.

    What is drawn within a step (drop-path) depends on (seed, step, batch of the step) alone: the
    generator is seeded anew, so that an interrupted run draws what the uninterrupted one drew.

    What an epoch adds up (loss, rates, the first step that was not finite) are buffers: nothing is
    copied to the host before somebody asks, and a checkpoint within an epoch keeps them.

    Args:
        model: What is trained.
        recipe: How.
        evaluated_on: Names of the validation loaders, in order.
    """

    loss_sum: Tensor
    batches: Tensor
    bad_step: Tensor

    def __init__(self, model: Spikformer, recipe: Recipe, evaluated_on: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.evaluated_on = evaluated_on
        self.evaluated: dict[str, float] = {}
        """`validation_top1` and the like, of the last epoch."""
        self.maps = {name for name, p in model.named_parameters() if p.dim() > 1}
        decay = recipe.optim.ema
        self.average = None if decay is None else ModelEmaV3(model, decay)
        if self.average is not None:
            self.average.requires_grad_(False)  # or DDP waits for its gradients
        self.rates = RateMeter(model)
        self.register_buffer("loss_sum", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("bad_step", torch.tensor(NEVER))
        tet = recipe.optim.loss == "tet"
        self._train_logits = self._prepared(model.forward_steps if tet else model.forward)
        self._evaluated = model if self.average is None else self.average.module
        self._eval_logits = self._prepared(self._evaluated.forward)

    def _prepared(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        settings = self.recipe.trainer
        return compiled(forward, settings.memory_budget) if settings.compile else forward

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        accumulate, world = self.recipe.trainer.accumulate, self.trainer.world_size
        slot = batch_idx % accumulate * world + self.global_rank
        torch.manual_seed(step_seed(self.recipe.trainer.seed, self.global_step, slot))
        images, targets = batch
        loss = training_loss(self._train_logits(images), targets, self.recipe.optim)
        now = loss.detach()
        self.loss_sum += now
        self.batches += 1
        self._watch(now)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.recipe.trainer.precision != "16":  # there infinities are scaled away
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            self._watch(torch.nn.utils.get_total_norm(grads))

    def _watch(self, value: Tensor) -> None:
        """Note this step, if the value is no number and none was before."""
        bad = ~torch.isfinite(value.detach())
        self.bad_step.masked_fill_(bad & (self.bad_step == NEVER), self.global_step)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update(self.model)

    def ends_a_step(self, batch_idx: int) -> bool:
        """Whether the optimizer steps after this batch."""
        return (batch_idx + 1) % self.recipe.trainer.accumulate == 0

    def check_finite(self) -> None:
        """See that all losses and gradients so far were numbers. The device is waited for.

        Raises:
            NotFiniteError: naming the first step where one was none.
        """
        step = int(self.reduced(self.bad_step, lowest=True))
        if step != NEVER:
            raise NotFiniteError(f"the loss or gradient of step {step} is infinite or no number")

    def share_sums(self) -> None:
        """Give every rank the mean of all ranks' sums, since a checkpoint holds one rank's."""
        for sums in (self.loss_sum, self.batches, self.rates.sums, self.rates.calls):
            sums.copy_(self.reduced(sums) / self.trainer.world_size)

    def epoch_loss(self) -> float:
        """The mean loss of the epoch so far, over all ranks."""
        return float(self.reduced(self.loss_sum) / self.reduced(self.batches))

    def on_train_epoch_start(self) -> None:
        self.loss_sum.zero_()
        self.batches.zero_()
        self.rates.reset()

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:  # running statistics may differ: those of rank 0 count
            for buffer in self._evaluated.buffers():
                dist.broadcast(buffer, src=0)
        # right answers, sum of losses, samples
        self.tallies = torch.zeros(
            len(self.evaluated_on), 3, dtype=torch.float64, device=_tally_device(self.device)
        )

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        full = len(labels) == self.recipe.data.batch_size
        # The last, smaller batch is not worth compiling for.
        logits = at_least_float32((self._eval_logits if full else self._evaluated)(images))
        right = (logits.argmax(1) == labels).sum()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        counted = torch.stack([right, loss, torch.full_like(right, len(labels))])
        self.tallies[dataloader_idx] += counted.to(self.tallies)

    def on_validation_epoch_end(self) -> None:
        totals = self.reduced(self.tallies).tolist()
        for name, (right, loss, count) in zip(self.evaluated_on, totals, strict=True):
            self.evaluated |= {f"{name}_loss": loss / count, f"{name}_top1": right / count}
            self.log_dict({f"{name}/top1": right / count, f"{name}/loss": loss / count})

    def reduced(self, values: Tensor, *, lowest: bool = False) -> Tensor:
        """The sum over all ranks, or the lowest of them."""
        total = values.clone()
        if dist.is_initialized():
            dist.all_reduce(total, dist.ReduceOp.MIN if lowest else dist.ReduceOp.SUM)
        return total

    def configure_optimizers(self) -> Any:
        optim = self.recipe.optim
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            groups[name.replace(WRAPPED, "") in self.maps].append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {"params": groups[False], "weight_decay": 0.0},
                {"params": groups[True], "weight_decay": optim.weight_decay},
            ],
            lr=optim.lr,
        )

        def relative_rate(epoch: int) -> float:
            return optim.lr_at(epoch, self.recipe.trainer.epochs) / optim.lr

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, relative_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "epoch"},
        }


def training_loss(logits: Float[Tensor, "*T B K"], targets: Targets, optim: Optim) -> Tensor:
    r"""Cross-entropy; of [T, B, K] the TET loss.

    $$(1-\lambda)\,\frac1T\sum_t \mathrm{CE}(O_t, y) + \lambda\,\mathrm{MSE}(O, 1)$$

    Deng et al., "Temporal efficient training", ICLR 2022, eq. 11 and 12.
    """
    logits = at_least_float32(logits)
    if logits.dim() == 2:
        return F.cross_entropy(logits, targets, label_smoothing=optim.label_smoothing)
    each = [F.cross_entropy(o, targets, label_smoothing=optim.label_smoothing) for o in logits]
    pull = (logits - TET_LOGIT).square().mean()
    return (1 - optim.tet_share) * torch.stack(each).mean() + optim.tet_share * pull


def _tally_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device  # it has no float64
