"""What a network does while it runs."""

from spikformer.probe.check import check
from spikformer.probe.diff import Difference, diff
from spikformer.probe.rates import FiringRates, RateMeter, firing_rates, spikes_per_step
from spikformer.probe.subject import Subject, enlivened
from spikformer.probe.verdict import Status, Verdict

__all__ = [
    "Difference",
    "FiringRates",
    "RateMeter",
    "Status",
    "Subject",
    "Verdict",
    "check",
    "diff",
    "enlivened",
    "firing_rates",
    "spikes_per_step",
]
