"""One pass of a network over the images that a report speaks of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from spikformer.models import Spikformer
from spikformer.probe import Activity, Anytime, FiringRates, activity, anytime, firing_rates
from spikformer.training.evaluation import Subject

BATCH = 50
Batch = TypeVar("Batch")
Watched = Callable[[Iterable[Batch], str], Iterable[Batch]]
"""Shows the progress of a loop: gives what it got."""


@dataclass(frozen=True)
class Looks:
    """What a network said of some images, and how its neurons fired meanwhile.

    Args:
        subject: Weights and data.
        model: The network, in evaluation, in float32.
        split: What the images are of.
        chosen: Which of them.
        logits: Of each step.
        rates: Of layers.
        activity: Of single neurons.
        anytime: Answers by their time.
    """

    subject: Subject
    model: Spikformer
    split: str
    chosen: Int64[Tensor, " n"]
    logits: Float[Tensor, "T n K"]
    rates: FiringRates
    activity: Activity
    anytime: Anytime

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        return self.subject.data.split(self.split).labels[self.chosen]

    @property
    def shares(self) -> Float[Tensor, "n K"]:
        """Probabilities after the last step."""
        return self.logits.mean(0).softmax(-1)

    def raw(self, which: Int64[Tensor, " m"]) -> Tensor:
        """Some of the chosen images, as they are stored."""
        return self.subject.data.split(self.split).images[self.chosen[which]]

    def sized(self, which: Int64[Tensor, " m"]) -> Tensor:
        """The same, at the size that the network takes."""
        images = self.subject.pixels.sized(self.raw(which))
        return images.clamp(0, 255) if images.dtype == torch.uint8 else images

    def inputs(self, which: Int64[Tensor, " m"]) -> Float[Tensor, "m *T C H W"]:
        """The same, as the network takes them."""
        return self.subject.pixels(self.raw(which))


def look(subject: Subject, model: Spikformer, split: str, count: int, watched: Watched) -> Looks:
    """Show a network `count` images of a split, at even distances, or all if there are no more."""
    part = subject.data.split(split)
    chosen = torch.linspace(0, len(part) - 1, min(count, len(part)), dtype=torch.float64)
    chosen = chosen.round().long()
    logits: list[Tensor] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for some in watched(chosen.split(BATCH), "looking at images"):
            yield subject.pixels(part.images[some]), part.labels[some]

    def keep(_head: nn.Module, _inputs: Any, out: Tensor) -> None:
        logits.append(out)

    hook = model.head.register_forward_hook(keep)
    try:
        with firing_rates(model) as rates, activity(model) as neurons:
            answers = anytime(model, batches())
    finally:
        hook.remove()
    return Looks(subject, model, split, chosen, torch.cat(logits, 1), rates, neurons, answers)
