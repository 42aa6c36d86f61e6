"""The spiking operations, each with its reference: the vocabulary of everything above.

Axes, here and everywhere: `T` steps, `B` batch, `C` channels, `H W` image, `N` tokens, `D` width,
`h` heads, `d` head width, `K` classes.

Each is a PyTorch operation `torch.ops.spikformer.<name>` with a gradient. The compiler inlines its
reference and fuses it with what surrounds it; `torch.export` keeps it as one node.
"""

from spikformer.kernels._declare import accumulator, backends
from spikformer.kernels.firing import check_firing
from spikformer.kernels.if_ import if_
from spikformer.kernels.lif import lif
from spikformer.kernels.plif import plif
from spikformer.kernels.spike_attention import spike_attention

__all__ = [
    "OPERATIONS",
    "accumulator",
    "backends",
    "check_firing",
    "if_",
    "lif",
    "plif",
    "spike_attention",
]

OPERATIONS = ("if_", "lif", "plif", "spike_attention")
"""Names under `torch.ops.spikformer`; each has a twin whose name ends in `_backward`."""
