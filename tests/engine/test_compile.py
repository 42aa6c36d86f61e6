"""From models to engines: what lowers, what is refused and how, and how engines are used."""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import enliven, tiny
from torch import nn

from spikformer import Spikformer, create_model
from spikformer.engine import Engine, compile, instruction_sets
from spikformer.engine.reference import fire, layer_currents
from spikformer.errors import ConfigError
from spikformer.export import Attention, Head, Layer, Pool
from spikformer.nn import SpikingConv
from spikformer.nn.neurons import LIF, PLIF

pytestmark = [pytest.mark.compiled, pytest.mark.usefixtures("built")]
EXAMPLES = Path(__file__).parents[2] / "examples"
both_precisions = pytest.mark.parametrize("precision", ["float32", "int8"])


def pictures(count=16, channels=3, side=8, seed=1):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny().float()


@pytest.fixture(scope="module", params=["float32", "int8"])
def engine(request, model):
    return compile(model, pictures(), request.param, threads=1)


SIZES = {
    "digits": partial(create_model, "spikformer_2_64_patch4"),
    "cifar10": partial(create_model, "spikformer_4_384_patch4", dim=32, heads=2, depth=1),
    "imagenet": partial(create_model, "spikformer_8_512", dim=64, depth=2, num_classes=9),
    "dvs": partial(create_model, "spikformer_2_256_dvs", dim=64),
    "gesture": partial(create_model, "spikformer_2_256_gesture", dim=64),
    "if": partial(tiny, neuron="if", enlivened=False),
    "plif": partial(tiny, neuron="plif", enlivened=False),
    "soft reset": partial(tiny, neuron=partial(LIF, v_reset=None), enlivened=False),
    "tau 3": partial(tiny, neuron=partial(LIF, tau=3.0), enlivened=False),
    "other rest": partial(tiny, neuron=partial(PLIF, v_reset=-0.5), enlivened=False),
    "learnable scale": partial(tiny, learnable_scale=True, enlivened=False),
    "queries and keys pooled": partial(tiny, qk_pool=3, enlivened=False),
    "one head": partial(tiny, heads=1, enlivened=False),
    "odd widths": partial(tiny, dim=24, heads=3, mlp_ratio=3.3, enlivened=False),
    "no pools": partial(tiny, pools=(False, False), enlivened=False),
    "deep": partial(tiny, depth=5, enlivened=False),
}


def lively(name, frames):
    """One of the models, its input, and the depth that its plan must have."""
    torch.manual_seed(5)
    made = SIZES[name]().float().eval()
    side = 16 if made.stem.strides[-1] <= 16 else 32
    images = pictures(8, made.in_chans, side)
    if frames:
        images = torch.stack([images, 1 - images, images.flip(-1)], 1)
    return enliven(made, images), images


@pytest.mark.parametrize("frames", [False, True], ids=["still", "frames"])
@pytest.mark.parametrize("name", SIZES)
def test_models_of_all_kinds_answer_as_pytorch_does(name, frames):
    made, images = lively(name, frames)
    engine = compile(made, images, threads=1)
    with torch.no_grad():
        expected, steps = made(images).numpy(), made.forward_steps(images).numpy()
    found = engine(images)
    assert found.shape == expected.shape
    assert np.ptp(found, axis=0).max() > 1e-3
    # Sums in another order differ by ulps, and one image of eight may meet its threshold by it.
    near = np.isclose(found, expected, rtol=1e-4, atol=1e-5).all(1)
    assert near.sum() >= len(images) - 1
    near = np.isclose(engine.forward_steps(images), steps, rtol=1e-4, atol=1e-5).all((0, 2))
    assert near.sum() >= len(images) - 1

    kinds = [type(operation) for operation in engine.plan.operations]
    convolutions = sum(isinstance(module, SpikingConv) for module in made.modules())
    assert kinds.count(Layer) == convolutions
    assert kinds.count(Attention) == len(made.blocks)
    assert kinds.count(Pool) == sum(made.arguments["pools"])
    assert engine.plan.values()[engine.plan.head.input].maximum == 2 * len(made.blocks) + 2


@pytest.mark.parametrize("name", ["digits", "dvs", "plif"])
def test_every_layer_in_int8_fires_nearly_as_in_float32(name):
    made, images = lively(name, frames=False)
    exact, integers = (compile(made, images, p, threads=1) for p in ("float32", "int8"))
    values = exact.trace(images)
    for layer in integers.plan.layers[1:]:
        found = fire(layer.neuron, layer_currents(layer, integers.arrays, values[layer.input]))
        # Random weights have deviations of a third of the largest: 7 bits leave errors below 1 %.
        assert (found != values[layer.output]).mean() < 0.01


def test_int8_keeps_the_mean_current_of_the_example():
    made, images = lively("digits", frames=False)
    exact, integers = (compile(made, images, p, threads=1) for p in ("float32", "int8"))
    values = exact.trace(images)
    for layer in exact.plan.layers[1:]:
        currents = [
            layer_currents(layer, each.arrays, values[layer.input]).mean((0, 1, 3, 4))
            for each in (exact, integers)
        ]
        np.testing.assert_allclose(*currents, rtol=1e-4, atol=1e-4)


def test_layers_say_how_they_run(engine):
    reports = {report.name: report for report in engine.layers()}
    assert list(reports) == [layer.name for layer in engine.plan.layers]
    first = reports["stem.stages.0"]
    assert (first.path, first.arithmetic, first.rate) == ("dense", "float32", None)
    assert first.macs == 8 * 8 * 9 * 3 * 8
    sums = {"float32": {"float32"}, "int8": {"int16", "int8 dot products"}}[engine.precision]
    for name, report in reports.items():
        if name != "stem.stages.0":
            assert 0 < report.rate < 3
            assert report.path in ("events", "dense")
            assert report.arithmetic in sums
    forced = {"events", "dense"}
    for path in forced:
        again = Engine(engine.plan, engine.arrays, threads=1, path=path)
        assert {report.path for report in again.layers()[1:]} == {path}
    assert f"Engine({engine.precision}, 11 layers" in repr(engine)


def test_rates_are_those_of_the_example(model, engine):
    values = engine.trace(pictures())
    if engine.precision == "float32":
        for layer in engine.plan.layers[1:]:
            np.testing.assert_allclose(layer.rate, values[layer.input].mean(), rtol=1e-12)
    seconds = engine.seconds(pictures(), repeats=2)
    assert list(seconds) == [operation.output for operation in engine.plan.operations]
    assert min(seconds.values()) >= 0


def test_batches_of_every_size_equal_single_images(engine):
    images = pictures(17)
    single = np.concatenate([engine(image[None]) for image in images])
    for size in range(1, 18):
        np.testing.assert_array_equal(engine(images[:size]), single[:size])


def test_still_images_equal_repeated_frames(engine):
    images = pictures(3)
    frames = images[:, None].expand(-1, 4, -1, -1, -1)
    np.testing.assert_array_equal(engine(images), engine(frames))


def test_the_first_steps_of_a_long_run_equal_a_short_run(engine):
    frames = torch.stack([pictures(3, seed=seed) for seed in range(6)], 1)
    long = engine.forward_steps(frames)
    for steps in range(1, 6):
        np.testing.assert_array_equal(engine.forward_steps(frames[:, :steps]), long[:steps])


def test_arrays_and_tensors_of_any_layout_are_taken(engine):
    images = pictures(3)
    expected = engine(images)
    apart = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for same in (images.numpy(), apart, images.double(), np.asfortranarray(images.numpy())):
        np.testing.assert_array_equal(engine(same), expected)
    numbers = (images * 9).to(torch.uint8)
    np.testing.assert_array_equal(engine(numbers), engine(numbers.float()))


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (2, 1, 8, 8), (2, 3, 8, 9), (2, 4, 3, 7, 8), (0, 3, 8, 8), (2, 0, 3, 8, 8)]
)
def test_images_of_another_shape_are_refused(engine, shape):
    with pytest.raises(ConfigError, match=r"images must be \[B, 3, 8, 8\].*, got \["):
        engine(np.zeros(shape, np.float32))


def test_threads_may_call_at_the_same_time(model):
    engine = compile(model, pictures(), "int8", threads=2)
    inputs = [pictures(count, seed=count) for count in (1, 3, 8, 11)]
    expected = [engine(images) for images in inputs]
    wrong = []

    def ask(index):
        for _ in range(5):
            if not np.array_equal(engine(inputs[index]), expected[index]):
                wrong.append(index)

    askers = [threading.Thread(target=ask, args=(index,)) for index in range(len(inputs))]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert not wrong


def test_two_streams_do_not_see_each_other(engine):
    frames = [[pictures(2, seed=10 * which + step) for step in range(4)] for which in range(2)]
    alone = [[stream(frame) for frame in clip] for clip in frames for stream in [engine.stream()]]
    streams = [engine.stream(), engine.stream()]
    for step in range(4):
        for which in range(2):
            found = streams[which](frames[which][step])
            np.testing.assert_array_equal(found, alone[which][step])


def test_a_state_is_a_copy(engine):
    stream = engine.stream()
    stream(pictures(2))
    before = stream.state
    bytes_before = before.to_bytes()
    stream(pictures(2, seed=2))
    assert before.to_bytes() == bytes_before
    branches = [engine.stream(before)(pictures(2, seed=3)) for _ in range(2)]
    np.testing.assert_array_equal(*branches)


def test_streams_refuse_what_does_not_fit(engine):
    stream = engine.stream()
    for name in ("logits", "state"):
        with pytest.raises(ConfigError, match="before its first frame"):
            getattr(stream, name)
    with pytest.raises(ConfigError, match=r"a frame must be \[2, 3, 8, 8\], got \[2, 1, 8, 8\]"):
        stream(np.zeros((2, 1, 8, 8)))
    with pytest.raises(ConfigError, match="a frame must be"):
        stream(np.zeros((0, 3, 8, 8)))
    stream(pictures(2))
    with pytest.raises(ConfigError, match=r"a frame must be \[2, 3, 8, 8\], got \[3, 3, 8, 8\]"):
        stream(pictures(3))


def test_states_of_another_network_are_refused(engine):
    for other in (tiny(dim=32), tiny(num_classes=6), tiny(depth=1), tiny(depth=3)):
        stream = compile(other.float(), pictures(), threads=1).stream()
        stream(pictures(2))
        with pytest.raises(ConfigError, match="the state is not of this network"):
            engine.stream(stream.state)


def test_a_network_in_training_is_refused(model):
    with pytest.raises(ConfigError, match=r"in eval mode: call model.eval\(\) first"):
        compile(tiny().float().train(), pictures())


class Strided(nn.Module):
    """What the engine has no kernel for, in front of what it has."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.rest = tiny(pools=(True, False)).float()

    def forward(self, images):
        return self.rest(self.down(images))


class Wrapped(nn.Module):
    """A network with something behind it."""

    def __init__(self, model, after):
        super().__init__()
        self.model, self.after = model, after

    def forward(self, images):
        return self.after(self.model, images)


class BySteps(nn.Module):
    """Its steps are never averaged."""

    def __init__(self):
        super().__init__()
        self.model = tiny().float()

    def forward(self, images):
        return self.model.forward_steps(images)


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.ReLU(), nn.Linear(9, 2)).eval()


class OverChannels(nn.Module):
    """As many tokens as channels: shapes alone do not tell one mean from the other."""

    def __init__(self):
        super().__init__()
        self.model = tiny(pools=(True, False)).float()  # 16 channels, 16 tokens

    def forward(self, images):
        features = self.model.forward_features_steps(images).mean(0)
        return self.model.head(features.mean(-1))


def after_stage(change):
    model = tiny().float()
    model.stem.stages[0] = Changed(model.stem.stages[0], change)
    return model.eval()


def before_neuron(change):
    model = tiny().float()
    fc1 = model.blocks[0].mlp.fc1
    fc1.neuron = nn.Sequential(Wrapped(nn.Identity(), lambda _, x: change(x)), fc1.neuron)
    return model.eval()


class Changed(nn.Module):
    """A stage of the stem whose spikes are changed."""

    def __init__(self, stage, change):
        super().__init__()
        self.stage, self.change = stage, change

    def forward(self, x, repeats=1):
        return self.change(self.stage(x, repeats))


REFUSED = {
    "attention by softmax": (lambda: tiny(attention="vsa").float(), "the engine cannot run"),
    "a stride": (lambda: Strided().eval(), "the engine cannot run conv2d at conv2d in down:"),
    "no spikes": (perceptron, r"the engine cannot run (linear|flatten) at "),
    "a neuron of one's own": (
        lambda: tiny(neuron=f"{EXAMPLES / 'my_neuron.py'}:ConstantLeak", enlivened=False).float(),
        r"the engine cannot run \w+ at \w+ in stem.stages.0.neuron:",
    ),
    "no head": (lambda: tiny(num_classes=0).float(), "linear head"),
    "a softmax at the end": (
        lambda: Wrapped(tiny().float(), lambda model, x: model(x).softmax(-1)).eval(),
        "the engine cannot run softmax at softmax",
    ),
    "logits times two": (
        lambda: Wrapped(tiny().float(), lambda model, x: model(x) * 2).eval(),
        "the engine cannot run mul at mul",
    ),
    "two results": (
        lambda: Wrapped(tiny().float(), lambda model, x: (model(x), x)).eval(),
        "logits",
    ),
    "logits of each step": (lambda: BySteps().eval(), "linear head"),
    "logits of the last step": (
        lambda: Wrapped(
            tiny().float(), lambda model, x: model.head(model.forward_features_steps(x)[-1].mean(1))
        ).eval(),
        "the engine cannot run select at select",
    ),
    "rounded pixels": (
        lambda: Wrapped(tiny().float(), lambda model, x: model(x.to(torch.uint8).float())).eval(),
        "the engine cannot run to at to",
    ),
    "spikes turned on their side": (
        lambda: after_stage(lambda spikes: spikes.transpose(3, 4)),
        "the engine cannot run max_pool2d",
    ),
    "steps taken for samples": (
        lambda: after_stage(
            lambda s: s.flatten(0, 1).unflatten(0, (s.shape[1], s.shape[0])).transpose(0, 1)
        ),
        "the engine cannot run unflatten",
    ),
    "currents turned on their side": (
        lambda: before_neuron(lambda current: current.transpose(3, 4)),
        "the engine cannot run lif",
    ),
    "channels shuffled": (
        lambda: before_neuron(
            lambda current: current.unflatten(2, (2, -1)).transpose(2, 3).flatten(2, 3)
        ),
        "the engine cannot run lif",
    ),
    "a mean over channels": (
        lambda: OverChannels().eval(),
        "the engine cannot run mean",
    ),
    "what has no graph": (
        lambda: Wrapped(tiny().float(), lambda model, x: model(x * x.max().item())).eval(),
        "the engine cannot run|cannot be exported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_in_one_sentence(name):
    build, sentence = REFUSED[name]
    with pytest.raises(ConfigError, match=sentence) as caught:
        compile(build(), pictures(4))
    assert "\n" not in str(caught.value)


ACCEPTED = {
    "dropout in eval mode": lambda: Wrapped(
        tiny().float(), lambda model, x: nn.functional.dropout(model(x), 0.5, training=False)
    ).eval(),
    "a block that runs twice": lambda: twice(),
    "another name for Q, K and V": lambda: renamed(),
}


def twice():
    model = tiny().float()
    model.blocks[1] = model.blocks[0]
    return model


def renamed():
    model = tiny().float()
    for block in model.blocks:
        attention = block.attention
        attention.qkv = Wrapped(attention.qkv, lambda layer, x: layer(x))
    return model


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_the_same_network_in_other_words_runs(name):
    made = ACCEPTED[name]().eval()
    engine = compile(made, pictures(), threads=1)
    with torch.no_grad():
        near = np.isclose(engine(pictures()), made(pictures()).numpy(), rtol=1e-4, atol=1e-5)
    assert near.all(1).sum() >= 15


def test_an_engine_made_from_frames_does_not_guess_how_often_to_see_a_still_image():
    made = tiny().float()
    frames = torch.stack([pictures()] * 7, 1)
    with pytest.raises(ConfigError, match="compiled on frames"):
        compile(made, frames, threads=1)(pictures())


def test_a_state_belongs_to_its_weights():
    made = tiny().float()
    exact, integers = (compile(made, pictures(), p, threads=1) for p in ("float32", "int8"))
    stream = exact.stream()
    stream(pictures())
    with pytest.raises(ConfigError, match="not of this network: it belongs to other weights"):
        integers.stream(stream.state)


def test_a_model_of_float16_statistics_lowers_too():
    made = tiny().float().to(torch.bfloat16).float()
    engine = compile(made, pictures(), threads=1)
    with torch.no_grad():
        near = np.isclose(engine(pictures()), made(pictures()).numpy(), rtol=1e-4, atol=1e-5)
    assert near.all(1).sum() >= 15


def test_arguments_that_nobody_knows_are_refused(model):
    with pytest.raises(ConfigError, match=r"unknown precision 'int4'.*int8"):
        compile(model, pictures(), "int4")
    with pytest.raises(ConfigError, match="unknown instruction set of this processor 'avx1024'"):
        compile(model, pictures(), instruction_set="avx1024")
    for threads in (0, -1, 10**6):
        with pytest.raises(ConfigError, match=f"threads must be .*, got {threads}"):
            compile(model, pictures(), threads=threads)
    for example in (pictures()[0], pictures()[:0], pictures()[None, None], "images", None):
        with pytest.raises(ConfigError, match="example must be images"):
            compile(model, example)
    with pytest.raises(ConfigError, match="cannot be exported"):
        compile(model, pictures(channels=1))


@both_precisions
def test_compiling_twice_gives_the_same_weights(model, precision):
    one, other = (compile(model, pictures(), precision, threads=1) for _ in range(2))
    assert one.plan == other.plan
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


@both_precisions
def test_compiling_leaves_the_model_alone(precision):
    model = tiny().float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compile(model, pictures(), precision, threads=1)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_float64_models_are_folded_in_float64():
    model = tiny()
    engine = compile(model, pictures().double(), threads=1)
    layer = model.blocks[0].mlp.fc1
    scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
    expected = (layer.conv.weight[:, :, 0, 0] * scale[:, None]).mT.detach().numpy()
    found = engine.arrays["blocks.0.mlp.fc1.weight"][0]
    np.testing.assert_allclose(found, expected, rtol=2**-24)


def test_every_instruction_set_can_be_asked_for(model):
    for name in instruction_sets():
        assert compile(model, pictures(), instruction_set=name).instruction_set == name
    assert compile(model, pictures()).instruction_set == instruction_sets()[0]


def test_a_plan_ends_with_the_head_of_the_model(engine, model):
    assert engine.plan.head == Head("head", engine.plan.head.input, 5)
    assert isinstance(model, Spikformer)
    np.testing.assert_array_equal(engine.arrays["head.weight"], model.head.weight.detach())
    assert {layer.neuron.charge for layer in engine.plan.layers} == {"multiply"}
