"""The published ways to turn counts into joules, each a rule for one operation.

Norms are folded into maps, and cost nothing; nor do neurons, pools and residual sums, unless a
convention says so. No convention is truer than the others: they answer different questions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2

from spikformer.energy.operands import Operand
from spikformer.energy.operations import Operation
from spikformer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What an operation costs, in picojoules.

    Args:
        mac_pj: A multiply-accumulate in 32-bit float at 45 nm (Horowitz, ISSCC 2014).
        ac_pj: An addition, likewise.
        byte_pj: A byte read or written (SpikingJelly 2.0, `estimate_simple_energy`).
        word_bytes: Of a weight, an activation, a potential.

    Raises:
        ConfigError: when one is negative.
    """

    mac_pj: float = 4.6
    ac_pj: float = 0.9
    byte_pj: float = 24.96
    word_bytes: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ConfigError(f"{name} must not be negative, got {value}")


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
        alone = self.operation.shared or self.operation.once
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
    """Rate times dense; the first layer multiplies, the head is free.

    Spikformer, eq. 21-22 and app. C.2; attention as the tool that its author names counts it.
    """
    if place.head:
        return 0.0
    if place.first:
        return costs.mac_pj * place.macs
    return _by_rates(place, costs)


def spikformer_strict(place: Place, costs: Costs) -> float:
    """What is 0 or 1 adds, as often as it reaches an output; all else multiplies."""
    operation = place.operation
    if place.first or place.head:
        return costs.mac_pj * place.macs
    if operation.role == "map":
        spikes = operation.input.kind == "binary"
        return costs.ac_pj * place.additions if spikes else costs.mac_pj * place.macs
    return _by_rates(place, costs)


def spikingformer(place: Place, costs: Costs, most: float = 30) -> float:
    """Rate times dense, and biases; inputs above 30 and the head multiply.

    `energy_consumption_calculation` of zhouchenlin2096/Spikingformer, with Nspks_max = `most`.
    """
    operation = place.operation
    if place.first or place.head:
        return costs.mac_pj * place.macs
    if operation.role != "map":
        return _by_rates(place, costs)
    whole = operation.input.kind != "float" and operation.input.largest <= most
    if not whole or (most == 1 and operation.input.kind != "binary"):
        return costs.mac_pj * place.macs
    return _by_rates(place, costs) + costs.ac_pj * place.of_all_steps(operation.biases)


def spikingformer_binary(place: Place, costs: Costs) -> float:
    """The same, but whatever is not 0 or 1 multiplies (Nspks_max = 1)."""
    return spikingformer(place, costs, most=1)


def sdt(place: Place, costs: Costs) -> float:
    """Share of what is not 0 times dense; the head is free.

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
    """Exact additions, an input of 2 twice, of all but the first layer.

    `utils` of xyshi2000/SpikingResformer.
    """
    if place.first or place.operation.role == "neuron":
        return 0.0
    return costs.ac_pj * place.of_all_steps(place.operation.weighted)


def neurobench(place: Place, costs: Costs) -> float:
    """What is 1 or -1 adds; what else is not 0 multiplies.

    NeuroBench 2.3. Its hooks see layers and so miss the products of attention, which count here; and it
    leaves out weights that are 0.
    """
    operation = place.operation
    if operation.role == "neuron":
        return 0.0
    parts = [(p.factors, p.additions) for p in operation.products]
    return sum(
        (costs.ac_pj if any(map(_is_spike, factors)) else costs.mac_pj) * place.of_all_steps(count)
        for factors, count in parts or [(operation.operands, operation.additions)]
    )


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
    """Additions as rate times dense; where no factor is spikes or counts, it multiplies."""
    operation = place.operation
    if operation.role == "neuron":
        return 0.0
    if operation.role == "mask":
        return costs.ac_pj * place.additions
    if operation.role == "attention" and all(o.kind != "float" for o in operation.operands):
        q, k, v = rates
        half = place.of_all_steps(operation.macs_keys_first) / 2
        return costs.ac_pj * half * (min(k, v) + q)
    if operation.role == "map":
        whole = operation.input.kind != "float"
        return place.macs * (costs.ac_pj * rates[0] if whole else costs.mac_pj)
    return sum(place.of_all_steps(p.macs) * _price(p.factors, costs) for p in operation.products)


def _price(factors: tuple[Operand, ...], costs: Costs) -> float:
    """Of a multiply-accumulate of two factors: an addition as often as the sparser spikes."""
    rates = [operand.rate for operand in factors if operand.kind != "float"]
    return costs.ac_pj * min(rates) if rates else costs.mac_pj


def _is_spike(operand: Operand) -> bool:
    return operand.kind != "float" and operand.largest <= 1
