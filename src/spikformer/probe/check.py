"""What a spiking network promises, tried on any of them: one's own, or another library's.

Every run starts from a fresh copy of the network, in float64, with the same seed. So each check
sees one thing, and state, dropout or neighbours are told apart.
"""

from collections.abc import Callable, Sequence

from torch import nn

from spikformer.errors import ConfigError
from spikformer.probe.check_isolation import (
    ALONE,
    CAUSAL,
    NEIGHBOURS,
    check_alone,
    check_causality,
    check_neighbours,
)
from spikformer.probe.check_neurons import check_gradients, check_silence, check_spikes
from spikformer.probe.check_repetition import (
    COMPILED,
    STATE,
    check_compiled,
    check_randomness,
    check_state,
    check_statistics,
)
from spikformer.probe.subject import Subject, enlivened
from spikformer.probe.trace import trace
from spikformer.probe.verdict import Status, Verdict


def check(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    steps: int = 4,
    time_axis: int | None = 1,
    trained: bool = False,
    compiled: bool = False,
) -> list[Verdict]:
    """Try a network on random frames.

    Args:
        network: Takes frames and returns logits [T, B, K] or [B, K]. It is copied, not changed.
        input_shape: Of one frame of one sample, such as C, H, W.
        steps: $T$.
        time_axis: Where the network wants time: 1 for [B, T, ...], 0 for [T, B, ...], None for still
            images.
        trained: Leave its norms alone. Those of a network that was not trained are fitted to the
            input, since it hardly fires otherwise, and silence proves nothing.
        compiled: Compile it too, which takes a minute.

    Returns:
        A verdict for each check, in a fixed order.

    Raises:
        ConfigError: when the network cannot be run, or its logits are not finite.
    """
    subject = Subject(network, tuple(input_shape), steps, time_axis)
    if not trained:
        subject = enlivened(subject)
    frames = subject.frames(subject.samples)
    base = trace(subject, frames)
    if not base.output.isfinite().all():
        raise ConfigError("the logits are not finite: nothing can be compared with them")
    random = check_randomness(subject, frames, base)
    repeatable: dict[str, Callable[[], Verdict]] = {
        STATE: lambda: check_state(subject, frames),
        NEIGHBOURS: lambda: check_neighbours(subject, frames, base),
        ALONE: lambda: check_alone(subject, frames, base),
        CAUSAL: lambda: check_causality(subject, frames, base),
        COMPILED: lambda: (
            check_compiled(subject, frames, base)
            if compiled
            else Verdict(COMPILED, Status.SKIPPED, "not asked for")
        ),
    }
    return [
        check_spikes(base),
        check_silence(base),
        check_statistics(base),
        random,
        *(
            Verdict(name, Status.UNKNOWN, "not while something is random")
            if random.failed  # another run draws other numbers
            else compare()
            for name, compare in repeatable.items()
        ),
        check_gradients(subject, frames, base),
    ]
