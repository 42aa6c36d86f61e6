"""What the paper prints about energy, and what its figures are made of (Spikformer, table 2)."""

from typing import NamedTuple

from spikformer.energy.conventions import Costs

FIRST_LAYER_OF_512 = 4 * 224 * 224 * 27 * 64
"""Multiply-accumulates of the first convolution at D = 512, in four steps."""


class Printed(NamedTuple):
    """A row of table 2.

    Args:
        dim: $D$.
        operations: Synaptic operations of an image, in 10^9.
        energy_mj: Millijoules of an image.
    """

    dim: int
    operations: float
    energy_mj: float

    def recomputed_mj(self, first_layer: float = FIRST_LAYER_OF_512) -> float:
        """0.9 pJ an operation and 4.6 pJ for each multiply-accumulate of the first layer."""
        costs = Costs()
        return costs.ac_pj * self.operations + costs.mac_pj * first_layer * 1e-9

    @property
    def own_first_layer(self) -> int:
        """Multiply-accumulates of this size's own first convolution, in four steps."""
        return FIRST_LAYER_OF_512 * self.dim // 512


PRINTED = {
    "spikformer_8_384": Printed(384, 6.82, 7.734),
    "spikformer_6_512": Printed(512, 8.69, 9.417),
    "spikformer_8_512": Printed(512, 11.09, 11.577),
    "spikformer_10_512": Printed(512, 13.67, 13.899),
    "spikformer_8_768": Printed(768, 22.09, 21.477),
}


def remark(model: str) -> str | None:
    """What the paper prints for a model, and where that is not this model's own; None elsewhere."""
    if model not in PRINTED:
        return None
    row = PRINTED[model]
    own = row.recomputed_mj(row.own_first_layer)
    said = (
        f"The paper prints {row.energy_mj} mJ from {row.operations} G operations of its trained "
        f"weights, with the first layer of D = 512 ({FIRST_LAYER_OF_512 / 1e9:.3f} G multiply-"
        f"accumulates) charged to every size"
    )
    if row.dim == 512:
        return f"{said}, which is this one's."
    return f"{said}. With its own ({row.own_first_layer / 1e9:.3f} G) it is {own:.3f} mJ."
