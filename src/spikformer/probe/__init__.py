"""What a network does while it runs."""

from spikformer.probe.check import check
from spikformer.probe.rates import FiringRates, RateMeter, firing_rates, spikes_per_step
from spikformer.probe.verdict import Status, Verdict

__all__ = [
    "FiringRates",
    "RateMeter",
    "Status",
    "Verdict",
    "check",
    "firing_rates",
    "spikes_per_step",
]
