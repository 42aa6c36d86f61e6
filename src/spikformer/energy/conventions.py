"""The published ways to turn counts into joules, each a rule for one operation.

Norms are folded into maps, and cost nothing; nor do neurons, pools and residual sums, unless a
convention says so. No convention is truer than the others: they answer different questions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2

from spikformer.energy.operations import Operation


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What an operation costs, in picojoules.

    Args:
        mac_pj: A multiply-accumulate in 32-bit float at 45 nm (Horowitz, ISSCC 2014).
        ac_pj: An addition, likewise.
        byte_pj: A byte read or written (SpikingJelly 2.0, `estimate_simple_energy`).
        word_bytes: Of a weight, an activation, a potential.
    """

    mac_pj: float = 4.6
    ac_pj: float = 0.9
    byte_pj: float = 24.96
    word_bytes: int = 4


@dataclass(frozen=True)
class Place:
    """One operation in its network.

    Args:
        operation: Its counts, over all samples.
        samples: How many.
        steps: $T$.
        first: Whether it is the first map: what meets the input.
        head: Whether it is a map after the last neuron.
    """

    operation: Operation
    samples: int
    steps: int
    first: bool = False
    head: bool = False

    def of_all_steps(self, count: float) -> float:
        """A count of the operation, for a sample and its T steps, also where they share it."""
        return count * (self.steps if self.operation.shared else 1) / self.samples

    def of_one_pass(self, count: float) -> float:
        """A count of the operation in a network without time."""
        alone = self.operation.shared or self.head
        return count / self.samples / (1 if alone else self.steps)

    @property
    def macs(self) -> float:
        return self.of_all_steps(self.operation.macs)

    @property
    def additions(self) -> float:
        return self.of_all_steps(self.operation.additions)


Rule = Callable[[Place, Costs], float]
"""Picojoules of an operation for one sample."""


def spikformer(place: Place, costs: Costs) -> float:
    """Rate times dense, whatever the spikes' values; the first layer multiplies, the head is free.

    Spikformer, eq. 21-22 and app. C.2; attention as the tool that its author names counts it.
    """
    if place.head:
        return 0.0
    if place.first:
        return costs.mac_pj * place.macs
    return _by_rates(place, costs)


def spikformer_strict(place: Place, costs: Costs) -> float:
    """Only what is 0 or 1 adds, and exactly as often as it reaches an output; all else multiplies."""
    operation = place.operation
    if place.first or place.head:
        return costs.mac_pj * place.macs
    if operation.role == "map":
        spikes = operation.input.kind == "binary"
        return costs.ac_pj * place.additions if spikes else costs.mac_pj * place.macs
    return _by_rates(place, costs)


def spikingformer(place: Place, costs: Costs, most: float = 30) -> float:
    """Rate times dense, and biases; inputs above 30 multiply, and so does the head.

    `energy_consumption_calculation` of zhouchenlin2096/Spikingformer, with Nspks_max = `most`.
    """
    operation = place.operation
    if place.first or place.head:
        return costs.mac_pj * place.macs
    if operation.role != "map":
        return _by_rates(place, costs)
    if operation.input.highest > most:
        return costs.mac_pj * place.macs
    return _by_rates(place, costs) + costs.ac_pj * place.of_all_steps(operation.biases)


def spikingformer_binary(place: Place, costs: Costs) -> float:
    """The same, but whatever is not 0 or 1 multiplies (Nspks_max = 1)."""
    return spikingformer(place, costs, most=1)


def sdt(place: Place, costs: Costs) -> float:
    """Share of what is not 0 times dense; masks by their additions, the head is free.

    Spike-driven Transformer (Yao et al., NeurIPS 2023), table of FLOPs.
    """
    operation = place.operation
    if place.head:
        return 0.0
    if place.first:
        return costs.mac_pj * place.macs
    densities = [operand.density for operand in operation.operands]
    return _by(densities, place, costs)


def spikingresformer(place: Place, costs: Costs) -> float:
    """Exact additions, an input of 2 twice, of everything but the first layer.

    `utils` of xyshi2000/SpikingResformer.
    """
    if place.first or place.operation.role == "neuron":
        return 0.0
    return costs.ac_pj * place.of_all_steps(place.operation.weighted)


def neurobench(place: Place, costs: Costs) -> float:
    """Effective operations: of what is not 0, spikes add and all else multiplies.

    NeuroBench 2.3. Its hooks see layers and so miss the products of attention; they count here.
    """
    operation = place.operation
    if operation.role == "neuron":
        return 0.0
    adds = any(operand.kind == "binary" for operand in operation.operands)
    return (costs.ac_pj if adds else costs.mac_pj) * place.additions


def with_memory(place: Place, costs: Costs) -> float:
    """What strict counts, and every byte that is moved.

    Weights are read once; activations and potentials are written and read once a step.
    """
    return spikformer_strict(place, costs) + costs.byte_pj * traffic(place, costs)


def ann_twin(place: Place, costs: Costs) -> float:
    """The same network without spikes and time: everything multiplies.

    Spikformer, eq. 23; its softmax wants $QK^T$ first.
    """
    return costs.mac_pj * of_twin(place)


def qnn_twin(place: Place, costs: Costs) -> float:
    r"""The twin with as many bits as T steps can say: an addition for each bit.

    $\lceil\log_2(T+1)\rceil$ bits, Yan et al., arXiv 2409.08290; what a bit costs is our choice, and no
    data are moved.
    """
    return costs.ac_pj * bits_of(place.steps) * of_twin(place)


def of_twin(place: Place) -> float:
    """Multiply-accumulates of an operation in the network without spikes and time."""
    operation = place.operation
    if operation.role in ("neuron", "mask"):
        return 0.0
    dense = operation.macs_tokens_first if operation.role == "attention" else operation.macs
    return place.of_one_pass(dense)


def bits_of(steps: int) -> int:
    """Bits that tell apart as many values as so many steps."""
    return ceil(log2(steps + 1))


def traffic(place: Place, costs: Costs) -> float:
    """Bytes that an operation moves for one sample."""
    operation = place.operation
    words = sum(operand.elements for operand in operation.operands) + operation.outputs
    if operation.role == "neuron":
        words += 2 * operation.outputs  # each potential, read and written
    moved = place.of_all_steps(words) + operation.parameters
    return costs.word_bytes * moved


CONVENTIONS: Mapping[str, Rule] = {
    "spikformer": spikformer,
    "spikformer-strict": spikformer_strict,
    "spikingformer": spikingformer,
    "spikingformer-binary": spikingformer_binary,
    "sdt": sdt,
    "spikingresformer": spikingresformer,
    "neurobench": neurobench,
    "with-memory": with_memory,
    "ann-twin": ann_twin,
    "qnn-twin": qnn_twin,
}


def _by_rates(place: Place, costs: Costs) -> float:
    return _by([operand.rate for operand in place.operation.operands], place, costs)


def _by(rates: list[float], place: Place, costs: Costs) -> float:
    """Additions as rate times dense; what is no spike multiplies."""
    operation = place.operation
    if operation.role == "neuron":
        return 0.0
    if operation.role == "mask":
        return costs.ac_pj * place.additions
    if all(operand.kind == "float" for operand in operation.operands):
        return costs.mac_pj * place.macs
    if operation.role == "attention":
        q, k, v = rates
        half = place.of_all_steps(operation.macs_keys_first) / 2
        return costs.ac_pj * half * (min(k, v) + q)
    return costs.ac_pj * place.macs * min(rates)
