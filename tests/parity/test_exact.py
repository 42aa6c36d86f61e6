"""The exact-arithmetic network of `helpers.exact`: equal however it is computed."""

import pytest
import torch
from helpers.exact import B, exact, frames

from spikformer.nn import BatchNorm
from spikformer.nn.neurons import Neuron

every_neuron = pytest.mark.parametrize("neuron", ["lif", "if", "plif"])


def everything(model, x):
    """Counts of every step after the stem and after each block, and the logits."""
    spikes = model.stem(x.transpose(0, 1))
    counts = [spikes + model.position(spikes)]
    for block in model.blocks:
        counts.append(block(counts[-1]))
    features = counts[-1].mean(0).flatten(2).mT
    return [*counts, model.forward_head(features)]


def run(model, x):
    with torch.no_grad():
        return everything(model, x)


def assert_same(found, expected):
    for result, wanted in zip(found, expected, strict=True):
        assert torch.equal(result.double(), wanted.double())


@every_neuron
def test_the_network_is_lively_exact_and_often_at_its_threshold(neuron):
    model, recorder = exact(neuron)
    currents, numbers = {}, []
    for module in model.modules():
        if isinstance(module, Neuron):
            module.register_forward_pre_hook(
                lambda module, inputs: currents.update({module: inputs[0]})
            )
        if isinstance(module, torch.nn.Conv2d | BatchNorm | torch.nn.Linear):
            module.register_forward_hook(
                lambda _module, inputs, out: numbers.extend([inputs[0], out])
            )
    *_, logits = run(model, frames())
    assert torch.equal(logits, model(frames()))
    assert (logits.std(0) > 0).sum() > 5
    recorder.assert_lively()

    # Every number that is ever rounded to bfloat16 is one.
    assert all(torch.equal(x, x.bfloat16().double()) for x in numbers)

    # Every layer has neurons that meet their threshold exactly, and together they are many.
    meetings = []
    for module, current in currents.items():
        v, threshold, met = torch.zeros_like(current[0]), module.options["threshold"], 0
        for x in current:
            u = v + x if neuron == "if" else (v + x) / 2
            met += (u == threshold).sum().item()
            v = u * (u < threshold)
        meetings.append(met)
    assert len(meetings) == len(recorder.spikes)
    assert min(meetings) > 0
    assert sum(meetings) > 0.03 * sum(x.numel() for x in recorder.spikes)


def test_a_tiny_error_would_show():
    # Scales smaller by one unit in the last place of float32: thresholds are missed everywhere.
    model, recorder = exact()
    expected = run(model, frames())
    spikes = list(recorder.spikes)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.weight.data *= 1 - 2.0**-24
    found = run(model, frames())
    assert not any(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(recorder.spikes, spikes, strict=True))


@every_neuron
def test_float32_equals_float64(neuron):
    assert_same(
        run(exact(neuron, torch.float32)[0], frames(torch.float32)),
        run(exact(neuron)[0], frames()),
    )


@every_neuron
def test_bfloat16_autocast_equals_float64(neuron):
    model, _ = exact(neuron, torch.float32)
    types = []
    model.blocks[0].mlp.fc1.norm.register_forward_hook(lambda *args: types.append(args[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = run(model, frames(torch.float32))
    assert types == [torch.bfloat16]
    assert_same(found, run(exact(neuron)[0], frames()))


@every_neuron
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_sample_alone_equals_the_batch(neuron, dtype):
    model, _ = exact(neuron, dtype)
    x = frames(dtype)
    alone = [run(model, x[sample : sample + 1]) for sample in range(B)]
    *counts, logits = zip(*alone, strict=True)
    assert_same([*(torch.cat(samples, 1) for samples in counts), torch.cat(logits)], run(model, x))


@every_neuron
def test_the_order_of_memory_does_not_matter(neuron):
    model, _ = exact(neuron, torch.float32)
    expected = run(model, frames(torch.float32))
    model.to(memory_format=torch.channels_last)
    x = frames(torch.float32).movedim(2, -1).contiguous().movedim(-1, 2)
    assert_same(run(model, x), expected)


def test_the_first_steps_of_a_long_run_equal_a_short_run():
    model, _ = exact(dtype=torch.float32)
    x = frames(torch.float32)
    long, short = run(model, x), run(model, x[:, :2])
    for counts, prefix in zip(long[:-1], short[:-1], strict=True):
        assert torch.equal(counts[:2], prefix)


@pytest.mark.compiled
@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_equals_float64(autocast):
    torch._dynamo.reset()
    expected = run(exact()[0], frames())
    model, recorder = exact(dtype=torch.float32)
    recorder.stop(model)
    compiled = torch.compile(everything, fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = compiled(model, frames(torch.float32))
    assert_same(found, expected)
