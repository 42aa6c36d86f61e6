"""Counts of whole networks, counted again in another way."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from spikformer import create_model, load_model
from spikformer.energy import profile
from spikformer.nn.attention import SpikingSelfAttention, split_heads

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "parity" / "golden"


def by_layer(found, role):
    return {row["layer"]: row for row in found.rows() if row["role"] == role}


@pytest.fixture(scope="module")
def trained():
    """Trained weights in float64, two pictures, and what they do."""
    model = load_model(ROOT / "benchmarks" / "weights" / "cifar10_small.safetensors").double()
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    images = F.interpolate(rough, size=(32, 32), mode="bicubic") * 3 - 1.5
    return model, images, profile(model, [images[:1], images[1:]])


def recounted(model, images):
    """Additions of every convolution and attention, each window and each pair one by one."""
    found, hooks = {}, []

    def convolution(name, layer, inputs, _out):
        windows = F.unfold((inputs[0] != 0).double(), layer.kernel_size, padding=layer.padding)
        found[name, "map"] = windows.sum().item() * layer.out_channels

    def attention(name, layer, qkv):
        q, k, v = split_heads(qkv, layer.heads)
        similar = torch.einsum("tbhni,tbhmi->tbhnm", q, k)
        summed = torch.einsum("tbhni,tbhnj->tbhij", k, v)
        keys_first = q.shape[-1] < q.shape[-2]
        first = summed if keys_first else similar
        sentence = "tbhni,tbhij->tbhnj" if keys_first else "tbhmj,tbhnm->tbhnj"
        pairs = torch.einsum(sentence, q if keys_first else v, (first != 0).double())
        found[name, "attention"] = first.sum().item() + pairs.sum().item()

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(partial(convolution, name)))
        if isinstance(module, SpikingSelfAttention):
            see = partial(lambda name, m, _layer, _args, out: attention(name, m, out), name, module)
            hooks.append(module.qkv.register_forward_hook(see))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def test_additions_equal_an_independent_recount(trained):
    model, images, found = trained
    counted = recounted(model, images)
    assert len(counted) > 12
    for (layer, role), count in counted.items():
        row = by_layer(found, role)[layer]
        logical = model.steps if layer == "stem.stages.0.conv" else 1
        assert row["additions"] == logical * count / len(images), layer
    assert sum(row["additions"] for row in found.rows()) == found.total()["additions"]


def test_the_sum_over_layers_is_the_total(trained):
    _, _, found = trained
    rows, total = found.rows(), found.total()
    for name, value in total.items():
        assert value == pytest.approx(sum(row[name] for row in rows), rel=1e-12)
    for name, energy in found.energy_mj().items():
        assert energy == pytest.approx(total[f"{name}_pj"] * 1e-9, rel=1e-12)


def test_batches_do_not_matter(trained):
    model, images, found = trained
    together = profile(model, [images])
    for row, other in zip(together.rows(), found.rows(), strict=True):
        for name, value in row.items():
            same = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
            assert other[name] == same


def test_rates_are_those_of_the_neurons(trained):
    from spikformer.probe import firing_rates

    model, images, found = trained
    with firing_rates(model) as rates, torch.no_grad():
        model(images)
    for block in range(2):
        fed = by_layer(found, "map")[f"blocks.{block}.mlp.fc2.conv"]
        assert fed["input_rate"] == pytest.approx(rates.by_layer()[f"blocks.{block}.mlp.fc1"])
        assert fed["input"] == "binary"
    assert by_layer(found, "map")["blocks.1.attention.qkv.conv"]["input"] == "integer"


def test_what_all_steps_share_is_executed_once_and_charged_each_time(trained):
    model, _, found = trained
    first = by_layer(found, "map")["stem.stages.0.conv"]
    assert first["macs"] == model.steps * first["macs_executed"]
    others = [row for row in found.rows() if row["layer"] != "stem.stages.0.conv"]
    assert all(row["macs"] == row["macs_executed"] for row in others)
    frames = torch.rand(1, 3, 3, 32, 32).double()
    moving = by_layer(profile(model, [frames]), "map")["stem.stages.0.conv"]
    assert moving["macs"] == moving["macs_executed"] == 3 * first["macs_executed"]


def test_the_first_layer_of_the_golden_network():
    path = GOLDEN / "cifar10.safetensors"
    with safe_open(path, "pt") as file:
        images = file.get_tensor("input").float()
    model = create_model("spikformer_4_384_patch4", dim=32, heads=2, depth=2)
    found = profile(model, [images])
    first = next(iter(found.rows()))
    # 16 x 16 places, 3 x 3 windows of 3 channels, 4 channels, 4 steps
    assert first["macs"] == 16 * 16 * 27 * 4 * 4 == 110_592


DENSE = {
    # by the paper's formulas, in 10^9: first convolution; all maps but the head; attention with
    # tokens first, with keys first; all, either way
    "spikformer_8_384": (224, "0.0650 4.660 0.236 0.058 4.897 4.719"),
    "spikformer_6_512": (224, "0.0867 7.023 0.236 0.077 7.260 7.101"),
    "spikformer_8_512": (224, "0.0867 8.256 0.315 0.103 8.571 8.359"),
    "spikformer_10_512": (224, "0.0867 9.489 0.393 0.128 9.883 9.618"),
    "spikformer_8_768": (224, "0.1301 18.511 0.472 0.154 18.984 18.666"),
    "spikformer_4_384_patch4": (32, "0.00133 0.9215 0.01258 0.00629 0.9340 0.928"),
    "spikformer_2_256_dvs": (128, "0.00944 0.3743 0.00419 0.00105 0.3785 0.3754"),
}


LARGE = ("spikformer_6_512", "spikformer_8_512", "spikformer_10_512", "spikformer_8_768")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in DENSE]
)
def test_dense_macs_are_the_published_ones(name):
    side, printed = DENSE[name]
    channels = 2 if "dvs" in name else 3
    model = create_model(name, steps=1, in_chans=channels)
    rows = profile(model, [torch.zeros(1, channels, side, side)]).rows()
    maps = sum(row["macs"] for row in rows if row["role"] == "map")
    head = rows[-1]["macs"]
    tokens_first, keys_first = (
        sum(row[f"macs_{order}_first"] for row in rows if row["role"] == "attention")
        for order in ("tokens", "keys")
    )
    both = maps + tokens_first, maps + keys_first
    found = [rows[0]["macs"], maps - head, tokens_first, keys_first, *both]
    for value, text in zip(found, printed.split(), strict=True):
        digits = len(text.split(".")[1])
        assert abs(value / 1e9 - float(text)) <= 0.501 * 10**-digits, (value, text)
