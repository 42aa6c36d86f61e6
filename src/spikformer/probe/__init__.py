"""What a network does while it runs."""

from spikformer.probe.activity import (
    Activity,
    activity,
    potential_histograms,
    potentials,
    recorded,
)
from spikformer.probe.anytime import Anytime, anytime
from spikformer.probe.attention import attention_maps, entropy, locality, rollout, shares
from spikformer.probe.rates import FiringRates, RateMeter, firing_rates, spikes_per_step

__all__ = [
    "Activity",
    "Anytime",
    "FiringRates",
    "RateMeter",
    "activity",
    "anytime",
    "attention_maps",
    "entropy",
    "firing_rates",
    "locality",
    "potential_histograms",
    "potentials",
    "recorded",
    "rollout",
    "shares",
    "spikes_per_step",
]
