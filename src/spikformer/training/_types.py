"""What losses and answers are computed in."""

import torch
from torch import Tensor


def at_least_float32(logits: Tensor) -> Tensor:
    """The same, in float32 where they come in a half type."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
