"""What a network knows after every step, and what stopping early would save."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikformer.energy import profile
from spikformer.errors import ConfigError
from spikformer.models import Spikformer

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Anytime:
    """Answers by their time.

    Args:
        top1: Share that is right when the first t steps vote, for t = 1 to T.
        confidence: Mean probability of the answer then.
        thresholds: Of the probability at which a sample is done.
        exit_top1: Share that is right when each sample stops at a threshold, for each of them.
        exit_steps: Mean number of steps until then.
    """

    top1: list[float]
    confidence: list[float]
    thresholds: list[float]
    exit_top1: list[float]
    exit_steps: list[float]


def anytime(
    model: Spikformer,
    batches: Iterable[tuple[Tensor, Tensor]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Anytime:
    """Accuracy after every step, and of stopping once the answer is sure enough.

    The last of `top1` is the network's usual accuracy. What is computed for the later steps of a
    sample that has stopped does not change the earlier ones, so one pass tells all.

    Args:
        model: The network, in evaluation.
        batches: Images [B, C, H, W] or frames [B, T, C, H, W], and their labels [B].
        thresholds: Of the largest probability, by the mean of the logits so far.

    Raises:
        ConfigError: when there is no batch.
    """
    right, sure = [], []
    with torch.no_grad():
        for images, labels in batches:
            steps = model.forward_steps(images)
            count = torch.arange(1, len(steps) + 1, device=steps.device).view(-1, 1, 1)
            shares = (steps.cumsum(0) / count).softmax(-1)
            confidence, answer = shares.max(-1)
            right.append((answer == labels).cpu())
            sure.append(confidence.cpu())
    if not right:
        raise ConfigError("there is no batch to answer")
    correct, certain = torch.cat(right, 1), torch.cat(sure, 1)
    last = len(correct) - 1
    exits = []
    for threshold in thresholds:
        done = certain >= threshold
        done[last] = True
        exits.append(done.to(torch.uint8).argmax(0))
    of_samples = torch.arange(correct.shape[1])
    return Anytime(
        top1=correct.double().mean(1).tolist(),
        confidence=certain.double().mean(1).tolist(),
        thresholds=list(thresholds),
        exit_top1=[correct[at, of_samples].double().mean().item() for at in exits],
        exit_steps=[(at + 1).double().mean().item() for at in exits],
    )


def energy_by_step(
    model: Spikformer,
    batches: Sequence[Tensor],
    watched: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, list[float]]:
    """Convention to the millijoules of a sample that stops after t steps, for t = 1 to T.

    Each t is a pass of its own.

    Args:
        model: The network.
        batches: Images [B, C, H, W] or frames [B, T, C, H, W], seen T times.
        watched: Goes through the t, and may show how far it is.
    """
    steps = batches[0].shape[1] if batches[0].dim() == 5 else model.steps
    by_step = [_energies(model, batches, t) for t in watched(range(1, steps + 1))]
    return {name: [each[name] for each in by_step] for name in by_step[0]}


def _energies(model: Spikformer, batches: Sequence[Tensor], t: int) -> dict[str, float]:
    whole = model.steps
    model.steps = t
    try:
        shown = [batch[:, :t] if batch.dim() == 5 else batch for batch in batches]
        return profile(model, shown, steps=t).energy_mj()
    finally:
        model.steps = whole
