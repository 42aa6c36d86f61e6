"""What a network computes and what that costs, by every convention, in one pass over data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikformer.energy.conventions import (
    CONVENTIONS,
    Costs,
    Place,
    Rule,
    bits_of,
    of_twin,
    traffic,
)
from spikformer.energy.operands import Operand
from spikformer.energy.watch import Watch
from spikformer.errors import ConfigError, first_line

PICO = 1e-12


@dataclass(frozen=True)
class Profile:
    """Counts and energies of a network, for one sample of T steps.

    Args:
        places: Every operation, in the order in which they first ran.
        samples: How many were seen.
        steps: $T$.
        parameters: Of the whole network.
        costs: In picojoules.
        conventions: From names to rules.
        uncounted: Operations with weights that ran and that nothing counts.
    """

    places: tuple[Place, ...]
    samples: int
    steps: int
    parameters: int
    costs: Costs
    conventions: Mapping[str, Rule]
    uncounted: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One for each operation, with units in the names of its numbers; they add up to `total`."""
        return [self._row(place) for place in self.places]

    def total(self) -> dict[str, float]:
        """Sums over all operations, for one sample."""
        rows = self.rows()
        summed = [n for n, v in rows[0].items() if isinstance(v, int | float) and n not in LOCAL]
        return {name: sum(row[name] for row in rows) for name in summed}

    def energy_mj(self) -> dict[str, float]:
        """Millijoules of one sample, by convention."""
        return {
            name: 1e-9 * sum(rule(place, self.costs) for place in self.places)
            for name, rule in self.conventions.items()
        }

    def break_even_rate(self) -> float:
        """Mean rate at which there are as many additions as in the quantised twin."""
        twin = bits_of(self.steps) * sum(of_twin(place) for place in self.places)
        return twin / sum(p.macs for p in self.places if p.operation.role != "neuron")

    def mean_rate(self) -> float:
        """Additions of all operations over their multiply-accumulates."""
        counted = [p for p in self.places if p.operation.role != "neuron"]
        return sum(p.additions for p in counted) / sum(p.macs for p in counted)

    def to_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return {
            "samples": self.samples,
            "steps": self.steps,
            "parameters": self.parameters,
            "costs": vars(self.costs),
            "energy_mj": self.energy_mj(),
            "break_even_rate": self.break_even_rate(),
            "uncounted": self.uncounted,
            "total": self.total(),
            "operations": [
                row | {"operands": [_facts(operand) for operand in place.operation.operands]}
                for row, place in zip(self.rows(), self.places, strict=True)
            ],
        }

    def _row(self, place: Place) -> dict[str, Any]:
        operation, each = place.operation, place.of_all_steps
        first = operation.operands[0]
        return {
            "layer": operation.layer,
            "role": operation.role,
            "input": first.kind,
            "input_largest": first.largest,
            "input_rate": first.rate,
            "input_density": first.density,
            "parameters": operation.parameters,
            "macs": place.macs,
            "macs_executed": operation.macs / place.samples,
            "macs_tokens_first": each(operation.macs_tokens_first or operation.macs),
            "macs_keys_first": each(operation.macs_keys_first or operation.macs),
            "additions": place.additions,
            "synaptic_operations": each(operation.weighted),
            "neuron_updates": each(operation.outputs) if operation.role == "neuron" else 0.0,
            "traffic_bytes": traffic(place, self.costs),
            **{f"{name}_pj": rule(place, self.costs) for name, rule in self.conventions.items()},
        }


LOCAL = ("input_largest", "input_rate", "input_density")
"""Numbers of a row that cannot be added up."""


def _facts(operand: Operand) -> dict[str, Any]:
    facts = {name: getattr(operand, name) for name in ("kind", "rate", "density", "largest")}
    return facts | {"elements": operand.elements}


def profile(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    steps: int | None = None,
    still: bool | None = None,
    batch_axis: int = 0,
    costs: Costs | None = None,
    conventions: Mapping[str, Rule] = CONVENTIONS,
    before: Callable[[], object] | None = None,
) -> Profile:
    """Count what a network does with data, whoever wrote it; memory is that of one batch.

    Args:
        model: The network, which is put into evaluation.
        batches: Images [B, C, H, W], or frames [B, T, ...].
        steps: $T$. None asks frames [B, T, ...], and else the model (`steps` or `T`).
        still: Whether all steps of a sample see the same. None takes images of four axes for that.
        batch_axis: Where the samples are: 1 in frames [T, B, ...].
        costs: Of an operation; None takes the usual ones.
        conventions: From names to rules; a new one is a function of a `Place` and `Costs`.
        before: Called before every batch: resets a network that keeps its state.

    Raises:
        ConfigError: when there is no batch, T is not known, the network fails on a batch, or nothing
            in it is counted.
    """
    watch = Watch(model)
    training = {module: module.training for module in model.modules()}
    model.eval()
    known = steps
    try:
        with torch.no_grad():
            for batch in batches:
                known = steps or _steps(model, batch)
                if before is not None:
                    before()
                alike = batch.dim() == 4 if still is None else still
                with watch.forward_pass(batch, batch.shape[batch_axis], known, alike):
                    _run(model, batch)
    finally:
        for module, was in training.items():
            module.training = was
    if not watch.operations or known is None:
        raise ConfigError("there is nothing to profile: no batch, or no operation that is counted")
    parameters = sum(p.numel() for p in model.parameters())
    places = _places(watch, known)
    missed = tuple(sorted(watch.uncounted))
    return Profile(places, watch.samples, known, parameters, costs or Costs(), conventions, missed)


def _run(model: nn.Module, batch: Tensor) -> None:
    try:
        model(batch)
    except Exception as error:  # whatever a network of one's own raises
        raise ConfigError(f"the network fails on {[*batch.shape]}: {first_line(error)}") from error


def _steps(model: nn.Module, batch: Tensor) -> int:
    if batch.dim() == 5:
        return batch.shape[1]
    for name in ("steps", "T"):
        if isinstance(found := getattr(model, name, None), int):
            return found
    raise ConfigError("the model does not say how many steps it takes: give steps")


def _places(watch: Watch, steps: int) -> tuple[Place, ...]:
    operations = list(watch.operations.values())
    maps = [n for n, each in enumerate(operations) if each.role == "map"]
    neurons = [n for n, each in enumerate(operations) if each.role == "neuron"]
    last = neurons[-1] if neurons else len(operations)
    return tuple(
        Place(
            each,
            watch.samples,
            steps,
            first=n == min(maps, default=-1),
            head=n in maps and n > last and not each.shared,
        )
        for n, each in enumerate(operations)
    )
