"""On the exact-arithmetic network every spike and logit of the engine equals PyTorch's."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from helpers.exact import T, exact, frames
from helpers.networks import layers

from spikformer.engine import Engine, State, compile, instruction_sets, missing
from spikformer.export.plan import SPIKES
from spikformer.nn import BatchNorm
from spikformer.nn.neurons import IF, LIF, PLIF

pytestmark = [pytest.mark.compiled, pytest.mark.usefixtures("built")]
both_precisions = pytest.mark.parametrize("precision", ["float32", "int8"])
SETS = () if missing() else instruction_sets()

NEURONS = {
    "lif": "lif",
    "if": "if",
    "plif": "plif",
    "if, soft reset": partial(IF, v_reset=None),
    # From here on potentials are rounded, by both in the same way: their currents are still exact.
    "lif of tau 1.7, other rest": partial(LIF, tau=1.7, v_reset=-0.4),
    "plif of tau 3, other rest": partial(PLIF, tau=3.0, v_reset=-0.4),
}
CHARGES = {
    "lif": "multiply",
    "if": "sum",
    "plif": "multiply",
    "lif of tau 1.7, other rest": "divide",
}


@pytest.fixture(scope="module", params=NEURONS)
def network(request):
    """A model, what it does with frames and with still images, and its engines as plans."""
    model, _ = exact(NEURONS[request.param], torch.float32)
    still = frames(torch.float32)[:, 0]
    found = {"name": request.param}
    for name, images in (("frames", frames(torch.float32)), ("still", still)):
        watched = watch(model, images)
        engines = {
            precision: compile(model, images, precision, threads=1)
            for precision in ("float32", "int8")
        }
        found[name] = images, watched, engines
    return found


def again(engine, instruction_set, **forced):
    """The same network on another instruction set."""
    return Engine(engine.plan, engine.arrays, threads=1, instruction_set=instruction_set, **forced)


def watch(model, images):
    """Spikes of every neuron layer by the engine's names for them, and all logits."""
    spikes, hooks = {}, []
    for name, module in watched_neurons(model).items():
        hooks.append(
            module.register_forward_hook(
                lambda _module, _inputs, out, name=name: spikes.update({name: out.numpy()})
            )
        )
    with torch.no_grad():
        logits = model(images)
        for hook in hooks:
            hook.remove()
        steps = model.forward_steps(images)
        features = model.forward_features_steps(images).mT.unflatten(-1, (2, 2))
    return spikes, features.numpy(), logits.numpy(), steps.numpy()


def watched_neurons(model):
    found = {f"{name}.spikes": module.neuron for name, module in layers(model)}
    for index, block in enumerate(model.blocks):
        found[f"blocks.{index}.attention.attended"] = block.attention.neuron
    return found


def assert_equals(engine, images, watched):
    spikes, features, logits, steps = watched
    traced = engine.trace(images)
    for name, expected in spikes.items():
        np.testing.assert_array_equal(traced[name], expected, err_msg=name)
    np.testing.assert_array_equal(traced[engine.plan.head.input], features)
    np.testing.assert_array_equal(engine(images), logits)
    np.testing.assert_array_equal(engine.forward_steps(images), steps)


@both_precisions
@pytest.mark.parametrize("seen", ["frames", "still"])
def test_every_spike_and_logit_is_pytorchs(network, precision, seen):
    images, watched, engines = network[seen]
    assert engines[precision].precision == precision
    for instruction_set, path in product(SETS, [None, "events", "dense"]):
        assert_equals(again(engines[precision], instruction_set, path=path), images, watched)


def test_all_neurons_were_compared_and_lively(network):
    _, (spikes, *_), engines = network["frames"]
    plan = engines["int8"].plan
    of_neurons = {
        name
        for name, value in plan.values().items()
        if value.storage == SPIKES and not name.endswith(".pooled")
    }
    assert spikes.keys() == of_neurons
    silent = [name for name, value in spikes.items() if not 0 < value.mean() < 1]
    assert len(silent) < 2, silent
    charge = CHARGES.get(network["name"])
    assert charge is None or {layer.neuron.charge for layer in plan.layers} == {charge}


def test_int8_keeps_weights_of_a_grid(network):
    engines = network["frames"][2]
    exact_arrays, integers = engines["float32"].arrays, engines["int8"].arrays
    for layer in engines["int8"].plan.layers[1:]:
        weight = integers[f"{layer.name}.weight"] * integers[f"{layer.name}.scale"]
        np.testing.assert_array_equal(weight, exact_arrays[f"{layer.name}.weight"])
        bias = integers[f"{layer.name}.bias"]
        np.testing.assert_array_equal(bias, exact_arrays[f"{layer.name}.bias"])


@both_precisions
@pytest.mark.parametrize("cut", range(1, T))
def test_frames_one_by_one_are_the_whole(network, precision, cut):
    images, (*_, logits, steps), engines = network["frames"]
    for before, after in zip(SETS, SETS[1:] + SETS[:1], strict=True):
        stream = again(engines[precision], before).stream()
        for step in range(T):
            if step == cut:  # another process, on another processor, could go on from these bytes
                state = State.from_bytes(stream.state.to_bytes())
                stream = again(engines[precision], after).stream(state)
            np.testing.assert_array_equal(stream(images[:, step]), steps[step])
            assert stream.steps == step + 1
        np.testing.assert_array_equal(stream.logits, logits)


@both_precisions
def test_norms_biased_far_below_leave_the_bias_of_the_head(precision):
    model, _ = exact("lif", torch.float32)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.bias.fill_(-1000.0)
    images = frames(torch.float32)
    engine = compile(model, images, precision, threads=1)
    assert not any(value.any() for value in engine.trace(images).values())
    expected = model.head.bias.detach().numpy()
    for logits in (*engine(images), *engine.forward_steps(images).reshape(-1, 8)):
        np.testing.assert_array_equal(logits, expected)
