import torch
from helpers.networks import tiny

from spikformer.energy import profile
from spikformer.probe import purity


def test_only_what_lies_behind_a_residual_sum_sees_counts():
    model = tiny()
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = {(s.layer, s.role): s for s in purity(profile(model, [images]))}
    impure = [layer for (layer, _), sight in seen.items() if not sight.pure]
    counts = [f"blocks.{n}.{part}.conv" for n in (0, 1) for part in ("attention.qkv", "mlp.fc1")]
    assert impure == ["stem.stages.0.conv", *counts, "head"]
    for n, layer in enumerate(counts):
        assert seen[layer, "map"].kinds == ("integer",)
        assert 2 <= seen[layer, "map"].largest[0] <= n + 2
    assert seen["blocks.0.attention", "attention"].kinds == ("binary",) * 3
    assert seen["stem.stages.0.conv", "map"].kinds == seen["head", "map"].kinds == ("float",)
