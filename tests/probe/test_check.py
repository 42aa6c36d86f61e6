"""Networks with one defect each, as users write them, and the verdict on each."""

import random
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikformer import create_model, list_models
from spikformer.errors import ConfigError
from spikformer.nn import LIF
from spikformer.nn.layers import SpikingConv
from spikformer.probe import Status, Subject, check, enlivened
from spikformer.probe.check_isolation import ALONE, CAUSAL, NEIGHBOURS
from spikformer.probe.check_neurons import FIRE, GRADIENTS, SPIKES
from spikformer.probe.check_repetition import COMPILED, RANDOM, STATE, STATISTICS

T, FRAME = 4, (2, 4, 4)


class Toy(nn.Module):
    """Two spiking layers and a head: frames [B, T, 2, 4, 4] to logits [T, B, 3]. Without defects."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.lif = LIF()
        self.second = nn.Linear(96, 10)
        self.norm2 = nn.BatchNorm1d(10)
        self.lif2 = LIF()
        self.head = nn.Linear(10, 3)

    def forward(self, frames):
        x = frames.transpose(0, 1)
        spikes = self.fire(self.norm(self.first(x.flatten(0, 1))), x.shape[:2]).flatten(1)
        current = self.between(self.norm2(self.second(spikes)).unflatten(0, x.shape[:2]))
        return self.classify(self.lif2(current))

    def fire(self, current, steps_and_batch):
        return self.lif(current.unflatten(0, steps_and_batch)).flatten(0, 1)

    def between(self, current):
        return current

    def classify(self, spikes):
        return self.head(spikes)


class FlatTimeMajor(Toy):
    """The membrane runs through all samples of a step, then of the next (published in QKFormer)."""

    def fire(self, current, steps_and_batch):
        return self.lif(current)


class FlatBatchMajor(Toy):
    """The same over [B T]: it runs from the last step of a sample into the next sample."""

    def fire(self, current, steps_and_batch):
        T, B = steps_and_batch
        x = current.unflatten(0, (T, B)).transpose(0, 1).flatten(0, 1)
        return self.lif(x).unflatten(0, (B, T)).transpose(0, 1).flatten(0, 1)


class BatchFirst(Toy):
    """Not broken: inner layers are [B T], which a shape alone does not say."""

    def forward(self, frames):
        B, steps = frames.shape[:2]
        current = self.norm(self.first(frames.flatten(0, 1))).unflatten(0, (B, steps))
        spikes = self.lif(current.transpose(0, 1)).transpose(0, 1)
        current = self.norm2(self.second(spikes.flatten(0, 1).flatten(1))).unflatten(0, (B, steps))
        return self.head(self.lif2(current.transpose(0, 1)).mean(0))


class ByKeyword(Toy):
    """Not broken: norms and neurons are told their input by name."""

    def __init__(self):
        super().__init__()
        self.lif2 = StraightThrough()

    def forward(self, frames):
        x = frames.transpose(0, 1)
        current = self.norm(input=self.first(input=x.flatten(0, 1))).unflatten(0, x.shape[:2])
        spikes = self.lif(current=current).flatten(0, 1).flatten(1)
        current = self.norm2(input=self.second(input=spikes)).unflatten(0, x.shape[:2])
        return self.head(input=self.lif2(current=current))


class Dropout(Toy):
    def between(self, current):
        return F.dropout(current, 0.5)  # training is True unless told otherwise


class NumpyNoise(Toy):
    def between(self, current):
        return current + np.random.randn()


class PythonNoise(Toy):
    def between(self, current):
        return current + random.gauss()


class OwnNoise(Toy):
    """Copies of it draw the same numbers."""

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def between(self, current):
        match self.generator:
            case torch.Generator():
                return current + torch.randn((), generator=self.generator)
            case np.random.Generator():
                return current + self.generator.standard_normal()
            case _:
                return current + self.generator.gauss(0, 1)


class SameNoise(OwnNoise):
    """Not broken: it seeds its generator before it draws."""

    def __init__(self):
        super().__init__(torch.Generator())

    def between(self, current):
        self.generator.manual_seed(0)
        return super().between(current)


class BatchStatistics(Toy):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)


class FunctionalBatchStatistics(Toy):
    def between(self, current):
        return F.batch_norm(current.flatten(0, 1), None, None, training=True).view_as(current) + 1


class Centred(Toy):
    def between(self, current):
        return current - current.mean(0) + 0.5


class CentredWithMean(Centred):
    """The same, with logits that are a mean over time: only inner layers show it."""

    def classify(self, spikes):
        return self.head(spikes).mean(0)


class ConvolutionOverTime(Toy):
    """Its layer behind the neurons has time last, [B, C, T], and sees one step on."""

    def __init__(self):
        super().__init__()
        self.over_time = nn.Conv1d(10, 10, 3, padding=1)

    def classify(self, spikes):
        return self.head(self.over_time(spikes.permute(1, 2, 0)).relu().mean(2))


class ConvolutionOverNeurons(Toy):
    """The same with samples and neurons in one axis, where nothing tells steps and samples apart."""

    def __init__(self):
        super().__init__()
        self.over_time = nn.Conv1d(1, 1, 3, padding=1)

    def classify(self, spikes):
        series = self.over_time(spikes.flatten(1).T[:, None]).squeeze(1)
        return self.head(series.square().mean(1).view(-1, 10))


class CentredBeforeTheHead(Toy):
    """It looks ahead where no module shows it."""

    def classify(self, spikes):
        return self.head((spikes - spikes.mean(0)).relu().mean(0))


class CentredBehindTheHead(Toy):
    def classify(self, spikes):
        logits = self.head(spikes)
        return (logits - logits.mean(0)).relu().mean(0)


class LastStep(Toy):
    def classify(self, spikes):
        return self.head(spikes[-1])


class SumOfLogits(Toy):
    def classify(self, spikes):
        return self.head(spikes).sum(0)


class MeanOverTokens(Toy):
    """Not broken: several layers follow on a mean over steps and tokens."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 6)
        self.head = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))

    def classify(self, spikes):
        return self.head(self.embed(spikes.unflatten(2, (2, 5))).mean((0, 2)))


class Declared(Centred):
    causal = False


class State(Toy):
    def __init__(self):
        super().__init__()
        self.v = 0.0

    def between(self, current):
        current = current + self.v
        self.v = current[-1]
        return current


class Reset(State):
    def reset(self):
        self.v = 0.0


class ResetOfABatch(State):
    def reset(self, batch):
        self.v = torch.zeros(batch)


class HalfSpikes(Toy):
    def __init__(self):
        super().__init__()
        self.lif2 = HalfLIF()


class HalfLIF(nn.Module):
    def forward(self, current):
        return LIF()(current) / 2


class NearlySpikes(Toy):
    def __init__(self):
        super().__init__()
        self.lif2 = Unnamed()


class Unnamed(nn.Module):
    def forward(self, current):
        soft = torch.sigmoid(4 * current) * 1e-7
        return (current > 0).to(current.dtype) - soft


class StraightThrough(nn.Module):
    """A neuron by what it does alone."""

    def forward(self, current):
        return (current > 0).to(current.dtype) + (current - current.detach())


class Unused(Toy):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class NoSurrogate(Toy):
    def __init__(self):
        super().__init__()
        self.lif2 = Threshold()


class Threshold(nn.Module):
    def forward(self, current):
        return (current >= 1).to(current.dtype)


class NextSample(Toy):
    """Only the second sample of a batch is disturbed, by the last."""

    def between(self, current):
        return torch.cat([current[:, :1], current[:, 1:2] + current[:, -1:], current[:, 2:]], 1)


def build(network):
    torch.manual_seed(0)
    return network()


def verdicts(network, **options):
    return {v.check: v for v in check(build(network), FRAME, steps=T, **options)}


def failed(found):
    return {name for name, verdict in found.items() if verdict.failed}


@pytest.mark.parametrize(
    "network", [Toy, BatchFirst, ByKeyword, SameNoise, LastStep, SumOfLogits, MeanOverTokens]
)
def test_a_network_without_defects_passes(network):
    found = verdicts(network)
    skipped = found.pop(COMPILED)
    assert skipped.status is Status.SKIPPED
    assert {v.status for v in found.values()} == {Status.PASSED}, found


@pytest.mark.parametrize(
    ("network", "checks", "layer"),
    [
        (FlatTimeMajor, {NEIGHBOURS, ALONE}, "lif"),
        (FlatBatchMajor, {NEIGHBOURS, ALONE, CAUSAL}, "lif"),
        (NextSample, {NEIGHBOURS, ALONE}, "lif2"),
        (Dropout, {RANDOM}, "lif2"),
        (NumpyNoise, {RANDOM}, "lif2"),
        (PythonNoise, {RANDOM}, "lif2"),
        (lambda: OwnNoise(torch.Generator()), {RANDOM}, "lif2"),
        (lambda: OwnNoise(np.random.default_rng(0)), {RANDOM}, "lif2"),
        (lambda: OwnNoise(random.Random(0)), {RANDOM}, "lif2"),
        (BatchStatistics, {STATISTICS, NEIGHBOURS, ALONE, CAUSAL}, "norm"),
        (FunctionalBatchStatistics, {STATISTICS, NEIGHBOURS, ALONE, CAUSAL}, None),
        (Centred, {CAUSAL}, "lif2"),
        (CentredWithMean, {CAUSAL}, "lif2"),
        (ConvolutionOverTime, {CAUSAL}, "over_time"),
        (State, {STATE}, "lif2"),
        (ResetOfABatch, {STATE}, "lif2"),
        (HalfSpikes, {SPIKES}, "lif2"),
        (NearlySpikes, {SPIKES}, "lif2"),
        (Unused, {GRADIENTS}, "spare"),
        (NoSurrogate, {GRADIENTS}, "first"),
    ],
)
def test_a_defect_is_found_where_it_is(network, checks, layer):
    found = verdicts(network)
    assert failed(found) == checks, found
    for name in checks if layer else ():
        assert found[name].layer == layer


def test_the_difference_is_told_in_the_unit_of_the_layer():
    assert verdicts(FlatTimeMajor)[NEIGHBOURS].difference_layer_units == 1  # a spike
    assert verdicts(HalfSpikes)[SPIKES].difference_layer_units == 0.5


def test_the_membrane_over_steps_and_samples_is_found_behind_the_first_sample():
    """Over [B T] the first sample is never disturbed: who looks at it alone finds nothing."""
    network = build(FlatBatchMajor).double().eval()
    nn.init.ones_(network.norm.bias)
    frames = torch.randn(3, T, *FRAME, dtype=torch.float64)
    others = torch.cat([frames[:1], torch.randn_like(frames[1:])])
    with torch.no_grad():
        assert torch.equal(network(frames)[:, 0], network(others)[:, 0])


def test_state_that_reset_clears_is_a_notice():
    found = verdicts(Reset)
    assert not failed(found)
    assert found[STATE].status is Status.NOTICE
    assert "reset()" in found[STATE].words


def test_what_is_random_is_told_once():
    found = verdicts(NumpyNoise)
    assert found[NEIGHBOURS].status is found[STATE].status is Status.UNKNOWN
    assert found[NEIGHBOURS].words == "not while something is random"
    assert "its own generator" in verdicts(lambda: OwnNoise(torch.Generator()))[RANDOM].words


def test_looking_ahead_by_design_is_a_notice():
    assert verdicts(Declared)[CAUSAL].status is Status.NOTICE


class NoTime(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 3)

    def forward(self, frames):
        return self.head(frames.mean(1).flatten(1))


class Silent(Toy):
    def between(self, current):
        return current * 0 - 1


def test_what_cannot_be_seen_is_not_claimed():
    found = verdicts(NoTime)
    assert not failed(found)
    assert found[CAUSAL].status is Status.UNKNOWN
    assert found[SPIKES].status is Status.UNKNOWN
    assert {v.check: v.status for v in check(LIF(), (3,), time_axis=0)}[GRADIENTS] is Status.UNKNOWN
    found = verdicts(Silent)
    assert found[NEIGHBOURS].status is Status.UNKNOWN
    assert found[FIRE].status is Status.NOTICE
    assert found[FIRE].layer == "lif2"


@pytest.mark.parametrize(
    ("network", "hidden"),
    [
        (ConvolutionOverNeurons, "over_time, head, output"),
        (CentredBeforeTheHead, "head, output"),
        (CentredBehindTheHead, "output"),
    ],
)
def test_what_has_no_axis_of_time_is_not_said_to_keep_steps_apart(network, hidden):
    verdict = verdicts(network)[CAUSAL]
    assert verdict.status is Status.UNKNOWN
    assert f"these cannot be compared: {hidden}; return logits of every step" in verdict.words


class StepByStep(nn.Module):
    """Modules are called once a step, and the class keeps time itself, in float32 by default."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 8)
        self.norm = nn.BatchNorm1d(8)
        self.spike = Threshold()
        self.head = nn.Linear(8, 3)

    def forward(self, frames):
        v, logits = torch.zeros(frames.shape[1], 8), []
        for x in frames:
            v += self.norm(self.layer(x.flatten(1)))
            spikes = self.spike(v)
            v = v * (1 - spikes)
            logits.append(self.head(spikes))
        return torch.stack(logits).mean(0)


def test_modules_called_once_a_step_have_an_axis_of_time():
    found = verdicts(StepByStep, time_axis=0)
    assert failed(found) == {GRADIENTS}
    assert found[CAUSAL].status is Status.PASSED
    assert "inner layers" in found[CAUSAL].words


class StillImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = SpikingConv(2, 4, 3, neuron=LIF)
        self.head = nn.Linear(64, 3)

    def forward(self, images):
        return self.head(self.conv(images[None].expand(T, -1, -1, -1, -1)).flatten(2))


def test_still_images_have_no_steps_to_leave_out():
    found = verdicts(StillImages, time_axis=None)
    assert not failed(found)
    assert found[CAUSAL].status is Status.UNKNOWN


def small(name):
    torch.manual_seed(0)
    model = create_model(name, depth=1, dim=16, heads=2, num_classes=3)
    side = 2 * model.feature_info[-1]["reduction"]
    return model, (model.in_chans, side, side)


@pytest.mark.parametrize("name", list_models())
def test_registered_models_pass(name):
    found = {v.check: v for v in check(*small(name), steps=2)}
    del found[COMPILED]
    assert {v.status for v in found.values()} == {Status.PASSED}, found


def test_a_trained_network_is_left_as_it_is():
    model = build(Toy)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = {v.check: v.status for v in check(model, FRAME, trained=True)}
    assert found[FIRE] is Status.NOTICE  # untrained in truth: it is silent
    check(model, FRAME)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


class NotFinite(Toy):
    def classify(self, spikes):
        return self.head(spikes) / 0


class Wrong(Toy):
    def classify(self, spikes):
        return spikes.sum()


@pytest.mark.parametrize(
    ("network", "options", "sentence"),
    [
        (NotFinite, {}, "the logits are not finite"),
        (Wrong, {}, "the network must return [T, B, K] or [B, K] with T=4, B=3, got []"),
        (Toy, {"time_axis": 0}, "[B, K] with T=4, B=3, got [3, 4, 3]"),
        (Toy, {"time_axis": 2}, "the network failed on [3, 2, 4, 4, 4]: RuntimeError"),
        (Toy, {"time_axis": 7}, "time_axis must be one of the 5 axes of the input, got 7"),
        (Toy, {"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_run_is_an_error(network, options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check(build(network), FRAME, **{"steps": T} | options)


class OtherwiseCompiled(Toy):
    def classify(self, spikes):
        return self.head(spikes) + 0.5 * torch.compiler.is_compiling()


@pytest.mark.compiled
@pytest.mark.parametrize(("network", "difference"), [(Toy, None), (OtherwiseCompiled, 0.5)])
def test_compiled_is_compared_with_eager(network, difference):
    found = verdicts(network, compiled=True)[COMPILED]
    assert found.failed == (difference is not None)
    assert found.status in (Status.PASSED, Status.FAILED)
    assert found.difference_layer_units == pytest.approx(difference)


def test_what_does_not_compile_is_not_claimed(monkeypatch):
    def refuse(*_args, **_options):
        raise RuntimeError("there is no compiler\nat all")

    monkeypatch.setattr(torch, "compile", refuse)
    verdict = verdicts(Toy, compiled=True)[COMPILED]
    assert verdict.status is Status.UNKNOWN
    assert verdict.words == "it does not compile here: RuntimeError: there is no compiler"


@pytest.mark.parametrize("build_one", [Toy, lambda: small("spikformer_2_64_patch4")[0]])
def test_what_the_compiler_makes_is_what_is_compared(monkeypatch, build_one):
    monkeypatch.setattr(torch, "compile", lambda f, **_options: lambda x: f(x) + 0.5)
    network = build_one()
    shape = FRAME if isinstance(network, Toy) else (1, 8, 8)
    found = {v.check: v for v in check(network, shape, steps=2, compiled=True)}
    assert found[COMPILED].failed
    assert found[COMPILED].difference_layer_units == pytest.approx(0.5)


def test_spikingjelly_passes_and_its_state_is_told():
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.model.spikformer import Spikformer

    size = {"img_size_h": 16, "img_size_w": 16, "patch_size": 4}
    network = Spikformer(T=4, **size, num_classes=3, embed_dims=32, num_heads=2, depths=1)
    found = {v.check: v for v in check(network, (3, 16, 16), time_axis=0)}
    assert found.pop(COMPILED).status is Status.SKIPPED
    state = found.pop(STATE)
    assert (state.status, state.layer) == (Status.NOTICE, "patch_embed.stages.0.neuron")
    assert {v.status for v in found.values()} == {Status.PASSED}, found


@pytest.mark.parametrize(("kind", "frame"), [("BatchNorm2d", (2, 4, 4)), ("BatchNorm1d", (2, 5))])
def test_a_norm_of_spikingjelly_is_fitted_over_steps_and_samples(kind, frame):
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    network = nn.Sequential(getattr(layer, kind)(2, step_mode="m"), LIF())
    subject = Subject(network, frame, time_axis=0)
    norm = enlivened(subject).network[0]
    seen = subject.frames(subject.samples, seed=1).movedim(2, 0).flatten(1)
    assert torch.allclose(norm.running_mean.double(), seen.mean(1))
    assert torch.allclose(norm.running_var.double(), seen.var(1, correction=0))
    assert norm.bias.tolist() == [0, 1]
    assert not failed({v.check: v for v in check(network, frame, time_axis=0)})


class InPlace(Toy):
    """Overwrites what the backward pass needs."""

    def between(self, current):
        squared = current.square()
        current.mul_(2)
        return squared


def test_a_backward_pass_that_fails_is_told():
    verdict = verdicts(InPlace)[GRADIENTS]
    assert verdict.failed
    assert "the backward pass fails: RuntimeError: one of the variables needed" in verdict.words
