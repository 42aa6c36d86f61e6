"""The network in JavaScript fires when PyTorch's does: every spike, in float64."""

import dataclasses
import json
import shutil
import subprocess
from importlib import resources

import pytest
import torch

from spikformer.data import Split, load_data
from spikformer.models import Card, Spikformer, load_model
from spikformer.nn import LIF
from spikformer.probe import attention_maps, recorded
from spikformer.report.portable import portable, why_not
from spikformer.training.evaluation import find_subject

ROUNDING = 1e-9
"""Far above what the order of a sum changes, far below what a potential should be from firing."""
SOURCE = resources.files("spikformer.report").joinpath("assets/network.js").read_text()
ANSWER = """
const network = loadNetwork(input.network);
const text = (steps) => steps.map((step) => Array.from(step).join(" "));
const answers = input.images.map((pixels) => {
  const { spikes, maps, logits, margin } = runNetwork(network, pixels);
  const layers = Object.entries(spikes).map(([layer, steps]) => [layer, text(steps)]);
  return { layers, maps: maps.map(text), logits, margin };
});
"""
VARIANTS = {
    "lif": {},
    "if": {"neuron": "if"},
    "plif": {"neuron": "plif"},
    "soft reset": {"neuron": lambda threshold: LIF(threshold=threshold, tau=3.0, v_reset=None)},
    "other rest": {"neuron": lambda threshold: LIF(threshold=threshold, v_reset=-0.25)},
    "pooled queries": {"qk_pool": 3, "learnable_scale": True, "scale": 0.3},
    "deep": {"depth": 3, "pools": (True, False, True), "qkv_bias": True, "steps": 3},
}


@pytest.fixture(params=["node", "chromium"])
def javascript(request):
    """Runs a script with an input, and gives what it calls answers."""
    if request.param == "chromium":
        tab = request.getfixturevalue("browser").page()
        return lambda given: tab.run(
            f"(() => {{ {SOURCE}\nconst input = {json.dumps(given)};{ANSWER}return answers; }})()"
        )
    if shutil.which("node") is None:
        pytest.skip("needs node")

    def run(given):
        read = "const input = JSON.parse(require('fs').readFileSync(0));"
        write = "console.log(JSON.stringify(answers));"
        script = f"{SOURCE}\n{read}{ANSWER}{write}"
        done = subprocess.run(
            ["node", "-e", script], input=json.dumps(given), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def made(**arguments):
    """A small network with some life in it."""
    options = {"depth": 1, "dim": 16, "heads": 2, "pools": (False, True), "num_classes": 4}
    model = Spikformer(in_chans=1, **{**options, **arguments})
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("norm.bias"):
            torch.nn.init.normal_(tensor, 0.9, 0.5)
        if name.endswith(("norm.weight", "running_var")):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


def words(x):
    return " ".join(str(int(n)) for n in x.flatten().tolist())


def assert_the_same(model, inputs, answers):
    """Spikes and maps equal, logits to rounding; how near a potential came to its threshold."""
    model, inputs = model.double(), inputs.double()
    spikes, maps = recorded(model, inputs), attention_maps(model, inputs)
    with torch.no_grad():
        logits = model.forward_steps(inputs)
    for n, answer in enumerate(answers):
        assert answer["margin"] > ROUNDING
        assert dict(answer["layers"]) == {
            layer: [words(step[n]) for step in x] for layer, x in spikes.items()
        }
        assert [layer for layer, _ in answer["layers"]] == list(spikes)
        assert answer["maps"] == [[words(step[n]) for step in x] for x in maps.values()]
        found = torch.tensor(answer["logits"], dtype=torch.float64)
        torch.testing.assert_close(found, logits[:, n], rtol=0, atol=1e-10)
    return spikes


def test_every_spike_of_a_trained_network_is_the_models(run, javascript):
    subject = find_subject(run.path, data=None, root=None, split="test")
    model = load_model(subject.weights)
    assert why_not(model, subject.card, subject.data) is None
    pixels = subject.data.test.images[torch.arange(0, 540, 18)]
    given = {"network": portable(model, subject.card), "images": pixels.flatten(1).tolist()}
    spikes = assert_the_same(model, subject.pixels(pixels), javascript(given))
    assert len(pixels) == 30
    assert all(x.any() for layer, x in spikes.items() if layer.startswith("stem"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_spike_of_other_networks_is_the_models(variant, javascript):
    torch.manual_seed(3)
    model = made(**VARIANTS[variant])
    side = 8
    card = Card("Spikformer", mean=(0.3,), std=(0.7,), input_size=(1, side, side))
    pixels = torch.randint(0, 256, (20, 1, side, side), dtype=torch.uint8)
    inputs = (pixels.float() / 255 - torch.tensor(0.3)) / torch.tensor(0.7)
    given = {"network": portable(model, card), "images": pixels.flatten(1).tolist()}
    spikes = assert_the_same(model, inputs, javascript(given))
    assert 0.02 < torch.cat([x.flatten() for x in spikes.values()]).mean() < 0.98


@pytest.mark.parametrize(
    ("arguments", "size", "reason"),
    [
        ({"in_chans": 3}, (3, 8, 8), "no square of one channel"),
        ({}, (1, 64, 64), "more than 1,024 pixels"),
        ({"dim": 128, "depth": 4}, (1, 8, 8), "more than 500,000 parameters"),
        ({"attention": "vsa"}, (1, 8, 8), "its attention is not 'ssa'"),
        (
            {"neuron": lambda threshold: torch.nn.Hardtanh(0, threshold)},
            (1, 8, 8),
            "its neurons are none of",
        ),
    ],
)
def test_what_the_page_cannot_compute_it_says(arguments, size, reason):
    options = {"in_chans": 1, **arguments}
    small = {"depth": 1, "dim": 16, "heads": 2, "pools": (False, True), "num_classes": 4}
    model = Spikformer(**{**small, **options})
    card = Card("Spikformer", input_size=size)
    data = load_data("digits")
    assert reason in why_not(model, card, data)
    frames = Split(torch.zeros(2, 4, 2, 8, 8), torch.zeros(2, dtype=torch.int64))
    events = dataclasses.replace(data, train=frames)
    assert why_not(model, card, events) == "it takes recordings of events"
