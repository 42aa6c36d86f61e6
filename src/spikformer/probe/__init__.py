"""What a network does while it runs, whether it does it right, and where two part."""

from spikformer.probe.activity import Activity, activity, potential_histograms, recorded
from spikformer.probe.anytime import Anytime, anytime, energy_by_step
from spikformer.probe.attention import attention_maps, entropy, locality, rollout, shares
from spikformer.probe.check import check
from spikformer.probe.diff import Difference, diff
from spikformer.probe.neurons import potentials
from spikformer.probe.purity import Sight, purity
from spikformer.probe.rates import FiringRates, RateMeter, firing_rates, spikes_per_step
from spikformer.probe.subject import Subject, enlivened
from spikformer.probe.verdict import Status, Verdict

__all__ = [
    "Activity",
    "Anytime",
    "Difference",
    "FiringRates",
    "RateMeter",
    "Sight",
    "Status",
    "Subject",
    "Verdict",
    "activity",
    "anytime",
    "attention_maps",
    "check",
    "diff",
    "energy_by_step",
    "enlivened",
    "entropy",
    "firing_rates",
    "locality",
    "potential_histograms",
    "potentials",
    "purity",
    "recorded",
    "rollout",
    "shares",
    "spikes_per_step",
]
