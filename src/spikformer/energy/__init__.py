"""What a network computes, exactly, and what that costs by every published convention."""

from spikformer.energy.conventions import CONVENTIONS, Costs, Place
from spikformer.energy.measured import Measured, measured
from spikformer.energy.operands import Operand
from spikformer.energy.operations import Operation
from spikformer.energy.profile import Profile, profile

__all__ = [
    "CONVENTIONS",
    "Costs",
    "Measured",
    "Operand",
    "Operation",
    "Place",
    "Profile",
    "measured",
    "profile",
]
