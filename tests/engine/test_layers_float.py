"""Layers in float32 on the inputs that they have in PyTorch, one at a time: one flip would cascade.

A spike may differ only where the potential in float64 is nearer to the threshold than rounding can
take it; that is counted, and the bound is derived in `helpers.rounding`.
"""

import copy
import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import layers, tiny
from helpers.rounding import decisions_of_layer

from spikformer.data.loader import EvaluationLoader
from spikformer.data.pixels import Pixels
from spikformer.engine import Engine, compile, instruction_sets, missing
from spikformer.engine._engine import _unpacked
from spikformer.engine._run import Call
from spikformer.export.plan import INPUT, PIXELS, SPIKES, Attention, Layer, inputs_of
from spikformer.models import load_model
from spikformer.models._card import read_card

pytestmark = [pytest.mark.compiled, pytest.mark.usefixtures("built")]
SETS = () if missing() else instruction_sets()
WEIGHTS = Path(__file__).parents[2] / "benchmarks" / "weights" / "cifar10_4_384_3epochs.safetensors"


def recorded(model, images):
    """Inputs and spikes of every layer of convolution, norm and neuron, [T, B, C, H, W]."""
    seen, hooks = {}, []
    for name, module in layers(model):
        hooks.append(
            module.register_forward_hook(
                lambda _module, inputs, out, name=name: seen.update({name: (inputs[0], out)})
            )
        )
    with torch.no_grad():
        logits = model(images)
    for hook in hooks:
        hook.remove()
    return seen, logits


def run_alone(engine, index, inputs, steps):
    """One operation of a plan, on inputs [T, B, C, H, W]; its output likewise."""
    operation, runner = engine.plan.operations[index], engine._runner
    (name,) = inputs_of(operation)
    prepared = runner.fresh(Call(inputs.shape[1], len(inputs) if name == INPUT else steps, steps))
    _pack(prepared.buffers[name], runner.values[name], inputs)
    with runner.lock:
        one = ctypes.pointer(prepared.operations[index])
        code = runner.instruction_set.encode()
        assert runner.library.spk_run(one, 1, code, runner._threads(), None) == 0
    value = runner.values[operation.output]
    return _unpacked(prepared.buffers[operation.output], value.storage == SPIKES, value.channels)


def _pack(buffer, value, inputs):
    array = np.asarray(inputs).swapaxes(0, 1)
    if value.storage == PIXELS:
        buffer[...] = array
        return
    rows = np.moveaxis(array, 2, -1).astype(np.uint8)
    rows = np.pad(rows, [(0, 0)] * 4 + [(0, -value.channels % 64)])
    if value.storage == SPIKES:
        rows = np.packbits(rows, axis=-1, bitorder="little").view(np.uint64)
    buffer[...] = rows


def near_and_wrong(model, seen, engine):
    """Over all layers: how many decisions were near, how many wrong, and the largest distance.

    Wrong are those that exact arithmetic on the same inputs would have decided otherwise.
    """
    wide = {name: module.double() for name, module in layers(copy.deepcopy(model))}
    near = wrong = total = 0
    farthest = 0.0
    for index, operation in enumerate(engine.plan.operations):
        if not isinstance(operation, Layer):
            continue
        inputs, expected = (each.numpy() for each in seen[operation.name])
        spikes = run_alone(engine, index, inputs, len(expected))
        found = decisions_of_layer(wide[operation.name], inputs, spikes)
        missed = found.wrong(spikes)
        assert (np.abs(found.distance[missed]) <= found.bound[missed]).all(), operation.name
        near += int((np.abs(found.distance) <= found.bound).sum())
        wrong += int(missed.sum())
        total += spikes.size
        farthest = max(farthest, np.abs(found.distance[missed]).max(initial=0))
        # Where PyTorch decided otherwise, one of the two was near, there or at a step before.
        unsure = np.maximum.accumulate(np.abs(found.distance) <= 2 * found.bound)
        assert unsure[spikes != expected].all(), operation.name
    return near, wrong, total, farthest


@pytest.mark.parametrize("neuron", ["lif", "if"])
@pytest.mark.parametrize("path", ["events", "dense"])
def test_each_layer_fires_as_float64_does_but_near_its_threshold(neuron, path):
    model = tiny(neuron=neuron, dim=48, heads=3).float()
    images = torch.rand(8, 3, 8, 8)
    seen, _ = recorded(model, images)
    compiled = compile(model, images, threads=1)
    for name in SETS:
        engine = Engine(compiled.plan, compiled.arrays, threads=1, instruction_set=name, path=path)
        near, wrong, total, farthest = near_and_wrong(model, seen, engine)
        assert total > 100_000
        assert near < 1e-3 * total  # so that the test says something of nearly all neurons
        assert wrong <= 3
        assert farthest < 1e-6


def test_a_wrong_scale_would_be_seen():
    model = tiny().float()
    images = torch.rand(32, 3, 8, 8)
    seen, _ = recorded(model, images)
    engine = compile(model, images, threads=1)
    for layer in engine.plan.layers:
        name = f"{layer.name}.weight"
        changed = engine.arrays | {name: engine.arrays[name] * np.float32(1 + 1e-2)}
        with pytest.raises(AssertionError, match=layer.name):
            near_and_wrong(model, seen, Engine(engine.plan, changed, threads=1))


def test_attention_is_exact_on_pytorchs_inputs():
    model = tiny(dim=48, heads=3).float()
    images = torch.rand(8, 3, 8, 8)
    seen, _ = recorded(model, images)
    compiled = compile(model, images, threads=1)
    compared = 0
    for name in SETS:
        engine = Engine(compiled.plan, compiled.arrays, threads=1, instruction_set=name)
        for index, operation in enumerate(engine.plan.operations):
            if isinstance(operation, Attention):
                qkv = seen[f"{operation.name}.qkv"][1].numpy()
                expected = seen[f"{operation.name}.proj"][0].numpy()
                np.testing.assert_array_equal(run_alone(engine, index, qkv, 4), expected)
                compared += 1
    assert compared == 2 * len(SETS)


@pytest.fixture(scope="module")
def trained(request):
    """Spikformer-4-384 after three epochs, 10,000 test images, their labels, and 64 to measure on."""
    from spikformer.data import load_data

    if not (root := request.config.getoption("--data")):
        pytest.skip("needs real data: pass --data=PATH")
    data = load_data("cifar10", Path(root))
    card = read_card(WEIGHTS)
    prepare = Pixels(card.mean, card.std)
    images, labels = next(iter(EvaluationLoader(data.test, prepare, batch_size=10_000)))
    example, _ = next(iter(EvaluationLoader(data.train, prepare, batch_size=64)))
    return load_model(WEIGHTS).float().eval(), images, labels.numpy(), example


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_predictions_on_real_images_are_pytorchs_but_for_proven_flips(trained, record_property):
    model, images, _, example = trained
    engine = compile(model, example)
    differing = []
    for first in range(0, 1000, 50):
        part = images[first : first + 50]
        with torch.no_grad():
            expected = model(part).numpy().argmax(1)
        differing += (first + np.flatnonzero(engine(part).argmax(1) != expected)).tolist()
    record_property("differing predictions of 1,000", differing)
    assert len(differing) <= 20
    for index in differing:
        name, distance, bound = first_flip(model, engine, images[index : index + 1])
        record_property(f"image {index}", f"{name}: {distance:.2g} off, bound {bound:.2g}")
        assert distance <= bound


def first_flip(model, engine, image):
    """The first layer in which the engine and PyTorch part on an image, whose inputs are equal.

    The largest distance of a potential from its threshold where a neuron's spikes first differ, and
    the bound of rounding there.
    """
    seen, _ = recorded(model, image)
    traced = engine.trace(image)
    for name, module in layers(copy.deepcopy(model)):
        inputs, expected = (each.numpy() for each in seen[name])
        spikes = traced[f"{name}.spikes"]
        if np.array_equal(spikes, expected):
            continue
        layer = next(layer for layer in engine.plan.layers if layer.name == name)
        if layer.input != INPUT:
            np.testing.assert_array_equal(traced[layer.input], inputs)
        found = decisions_of_layer(module.double(), inputs, spikes)
        differ = spikes != expected
        first = differ & (np.cumsum(differ, axis=0) == 1)
        worst = np.argmax(np.abs(found.distance[first]) - 2 * found.bound[first])
        return name, np.abs(found.distance[first])[worst], 2 * found.bound[first][worst]
    raise AssertionError("no layer differs, and yet the logits do")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_int8_keeps_the_accuracy_of_float32_on_real_images(trained, record_property):
    model, images, labels, example = trained
    accuracy = {}
    for precision in ("float32", "int8"):
        engine = compile(model, example, precision)
        accuracy[precision] = 100 * (engine(images).argmax(1) == labels).mean()
    record_property("accuracy in %", accuracy)
    assert accuracy["float32"] > 60
    assert accuracy["int8"] > accuracy["float32"] - 0.3


@pytest.mark.slow
def test_each_trained_layer_fires_as_float64_does_but_near_its_threshold(trained, record_property):
    model, images, _, example = trained
    seen, _ = recorded(model, images[:8])
    near, wrong, total, farthest = near_and_wrong(model, seen, compile(model, example))
    record_property("near, wrong, all decisions, farthest", (near, wrong, total, farthest))
    assert near < 0.01 * total
    assert wrong < 1e-5 * total
    assert farthest < 1e-4
