"""What a network does while it runs."""

from spikformer.probe.rates import FiringRates, RateMeter, firing_rates, spikes_per_step

__all__ = ["FiringRates", "RateMeter", "firing_rates", "spikes_per_step"]
