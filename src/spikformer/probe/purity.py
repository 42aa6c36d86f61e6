"""Which operations see spikes and nothing else, and what the others see."""

from dataclasses import dataclass

from spikformer.energy import Profile


@dataclass(frozen=True)
class Sight:
    """What an operation is given.

    Args:
        layer: Name of the module that runs it.
        role: As of `spikformer.energy.Operation`.
        kinds: Of its input, of both factors, or of queries, keys and values: `binary`, `integer` or
            `float`.
        largest: The largest absolute value in each.
    """

    layer: str
    role: str
    kinds: tuple[str, ...]
    largest: tuple[float, ...]

    @property
    def pure(self) -> bool:
        """Whether it sees 0 and 1 alone."""
        return set(self.kinds) == {"binary"}


def purity(found: Profile) -> list[Sight]:
    """What each operation but neurons saw while a network was profiled, in the order they ran.

    Of Spikformer, the first map sees the image and the last one means; the maps behind a residual
    sum see counts, which the paper charges as spikes.
    """
    return [
        Sight(
            place.operation.layer,
            place.operation.role,
            tuple(operand.kind for operand in place.operation.operands),
            tuple(operand.largest for operand in place.operation.operands),
        )
        for place in found.places
        if place.operation.role != "neuron"
    ]
