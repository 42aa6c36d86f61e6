"""Energy for a report: by layer, by convention, and by the number of steps."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from spikformer.energy import CONVENTIONS, profile
from spikformer.probe import energy_by_step
from spikformer.report.looks import BATCH, Looks, Watched

MOST_IMAGES = 200
"""Energies are means that settle soon, and counting is slower than answering."""
QUESTIONS = {
    "spikformer": "What would the Spikformer paper have reported? Rate times dense operations, "
    "whatever a spike's value; the head is free.",
    "spikformer-strict": "And if only what is truly 0 or 1 may add? Everything else multiplies.",
    "spikingformer": "What would the Spikingformer authors' script report? Biases count, and "
    "integers up to 30 still add.",
    "spikingformer-binary": "The same script, when anything but 0 and 1 multiplies.",
    "sdt": "What would the Spike-driven Transformer paper have reported? The share that is not 0, "
    "times dense.",
    "spikingresformer": "What would the SpikingResformer authors' script report? Synaptic "
    "operations of everything but the first layer.",
    "neurobench": "What does NeuroBench call effective? Operations on what is not 0.",
    "with-memory": "And if moving every word costs, too? Strict arithmetic plus all traffic.",
    "ann-twin": "What would the same network cost without spikes and time, in 32-bit floats?",
    "qnn-twin": "And quantised to as many bits as the spike counts need?",
}
"""What each convention answers."""


def energy_section(looks: Looks) -> dict[str, Any]:
    """Counts and energies of each operation, and their sums by convention."""
    found = profile(looks.model, _batches(looks))
    table = found.to_dict()
    operations = [row for row in table["operations"] if row["role"] != "neuron"]
    neurons = [row for row in table["operations"] if row["role"] == "neuron"]
    largest = max(table["energy_mj"].values())
    unit, per_mj = ("mJ", 1.0) if largest >= 1 else ("µJ", 1e3)
    return {
        "unit": unit,
        "per_mj": per_mj,
        "samples": found.samples,
        "steps": found.steps,
        "costs": table["costs"],
        "total": table["total"],
        "break_even_rate": table["break_even_rate"],
        "mean_rate": found.mean_rate(),
        "uncounted": table["uncounted"],
        "conventions": [
            {"name": name, "energy_mj": energy, "question": _question(name)}
            for name, energy in table["energy_mj"].items()
        ],
        "operations": operations,
        "headings": [f"{name}, {unit}" for name in table["energy_mj"]],
        "neurons": {name: sum(row[name] for row in neurons) for name in table["total"]},
    }


def by_step(looks: Looks, watched: Watched) -> dict[str, list[float]]:
    """Convention to the millijoules of the first t steps, for t = 1 to T."""
    return energy_by_step(
        looks.model, list(_batches(looks)), lambda steps: watched(steps, "counting the first steps")
    )


def _batches(looks: Looks) -> Iterator[Tensor]:
    every = max(1, -(-len(looks.chosen) // MOST_IMAGES))
    for some in torch.arange(0, len(looks.chosen), every).split(BATCH):
        yield looks.inputs(some)


def _question(name: str) -> str:
    if name in QUESTIONS:
        return QUESTIONS[name]
    return next(iter((CONVENTIONS[name].__doc__ or "").splitlines()), "")
