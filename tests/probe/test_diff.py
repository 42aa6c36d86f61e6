import copy

import pytest
import torch
from einops import rearrange
from helpers.networks import TINY, enliven, tiny
from torch import nn

from spikformer import Spikformer
from spikformer.errors import ConfigError
from spikformer.nn import IF, LIF, PLIF
from spikformer.probe import Subject, diff
from spikformer.probe.neurons import potentials, twin

FRAME = (3, 8, 8)
LAYERS = 2 + 1 + 2 * 5  # stages, position, and of each block Q K V, product, projection, MLP


def subject(network, **options):
    return Subject(network, FRAME, **options)


@pytest.fixture
def model():
    return tiny()


def test_a_network_does_not_part_from_itself(model):
    found = diff(subject(model), subject(copy.deepcopy(model)), subject(model).frames(2))
    assert found.equal
    assert (found.parting, found.layers, found.largest_logit_difference) == (None, LAYERS, 0)


def test_the_first_layer_step_and_neuron_are_named(model):
    """One channel of the first MLP's bias is raised: all before it agrees, and none after counts."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[0].mlp.fc1.norm.bias[5] += 0.5
    frames = subject(model).frames(2)
    found = diff(subject(model), subject(other), frames)
    parting = found.parting
    assert not found.equal
    assert parting.a.layer == parting.b.layer == "blocks.0.mlp.fc1.neuron"
    assert parting.neuron[0] == 5
    assert (parting.a.spike, parting.b.spike) == (0, 1)
    assert parting.a.above_threshold < 0 <= parting.b.above_threshold
    assert parting.step == 1  # so that the rise is all of the difference, halved by tau
    assert parting.b.current - parting.a.current == pytest.approx(0.5)
    assert parting.b.potential - parting.a.potential == pytest.approx(0.25)
    spikes = [_spikes(network, frames, parting.a.layer) for network in (model, other)]
    differ = spikes[0] != spikes[1]
    assert parting.spikes_that_differ == differ.sum()
    assert not differ[: parting.step - 1].any()
    assert differ[(parting.step - 1, parting.sample, *parting.neuron)]


def _spikes(network, frames, layer):
    kept = []
    hook = network.get_submodule(layer).register_forward_hook(lambda *args: kept.append(args[-1]))
    network(frames)
    hook.remove()
    return kept[0]


@pytest.mark.parametrize(
    ("neuron", "expected"),
    [
        # hard reset after 1.5: 0.75, 0.375 + 0.75 = 1.125 fires, then 0.75 again
        (LIF(), [0.75, 1.125, 0.75]),
        (LIF(v_reset=None), [0.75, 1.125, 0.8125]),  # 1.125 - 1 is left: (0.125 + 1.5) / 2
        (IF(threshold=2.0), [1.5, 3.0, 1.5]),
        (PLIF(tau=2.0), [0.75, 1.125, 0.75]),
    ],
)
def test_potentials_before_the_reset_by_hand(neuron, expected):
    u = potentials(neuron, torch.full((3, 1), 1.5, dtype=torch.float64))
    assert u.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
@pytest.mark.parametrize(
    ("kind", "leak"),
    [
        ("IFNode", {}),
        ("LIFNode", {"tau": 2.0}),
        ("LIFNode", {"tau": 3.0, "decay_input": False}),
    ],
)
def test_potentials_of_spikingjelly_are_those_of_its_steps(kind, leak, v_reset):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    options = {"v_threshold": 0.8, "v_reset": v_reset} | leak
    stepped, silent = (getattr(neuron, kind)(**options) for _ in range(2))
    torch.manual_seed(0)
    current, expected, fired = 2 * torch.randn(6, 50, dtype=torch.float64) + 1, [], 0
    ours = twin(stepped, current)
    silent.v_threshold = 1e30  # so that it ends a step with the potential before its reset
    for x in current:
        silent.v = stepped.v
        silent(x)
        expected.append(silent.v)
        fired += stepped(x).sum()
    assert fired > 20
    assert torch.allclose(potentials(*ours), torch.stack(expected), rtol=0, atol=1e-12)


def test_no_potential_is_made_up_for_neurons_that_are_not_known():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    current = torch.ones(2, 3)
    node = neuron.LIFNode()
    assert twin(node, current) is not None
    node(current[0])
    assert twin(node, current) is None  # it goes on from where it stopped
    assert twin(neuron.KLIFNode(), current) is None
    assert twin(neuron.IFNode(v_reset=2.0), current) is None
    assert twin(nn.ReLU(), current) is None


@pytest.mark.parametrize(("step_mode", "forgets"), [("s", False), ("m", False), ("s", True)])
def test_spikingjelly_is_told_how_near_to_the_threshold_it_was(step_mode, forgets):
    """One in step mode s that is given all steps at once has no past: none is made up for it."""
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")

    class Theirs(nn.Module):
        def __init__(self, more):
            super().__init__()
            self.more, self.lif = more, neuron.LIFNode(step_mode=step_mode)

        def forward(self, frames):
            rise = torch.tensor([1.0, 1.0, 1.9, 0.0]).view(-1, 1, 1)
            current = 0 * frames + rise + self.more
            if step_mode == "m" or forgets:
                return self.lif(current)
            return torch.stack([self.lif(x) for x in current])

    a, b = (Subject(Theirs(more), (3,), time_axis=0) for more in (0.0, 0.4))
    parting = diff(a, b, a.frames(2)).parting
    assert parting.step == (3 if forgets else 2)
    if forgets:
        assert parting.a.potential is None
    else:
        assert parting.a.above_threshold == pytest.approx(-0.25)
        assert parting.b.potential == pytest.approx(1.05)


def test_what_is_behind_the_last_neuron_parts_too(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.bias[0] += 0.25
    found = diff(subject(model), subject(other), subject(model).frames(2))
    assert found.parting is None
    assert not found.equal
    assert found.largest_logit_difference == pytest.approx(0.25)


def test_two_precisions_of_one_network(model):
    frames = subject(model).frames(2)
    found = diff(subject(model), subject(model), frames, precisions=("64", "bf16"))
    assert found.parting is not None
    # Between float64 and bfloat16 it is a matter of rounding: both are near the threshold.
    assert abs(found.parting.a.above_threshold) < 0.05
    assert abs(found.parting.b.above_threshold) < 0.05
    assert diff(subject(model), subject(model), frames, precisions=("64", "32")).equal


class Laid(nn.Module):
    """Two layers of neurons that keep their spikes in one of the field's four ways."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside
        self.first, self.lif = nn.Linear(8, 16), LaidLIF(inside)
        self.second, self.lif2 = nn.Linear(16, 16), LaidLIF(inside)
        self.head = nn.Linear(16, 3)

    def forward(self, frames):
        B, steps = frames.shape[:2]
        x = rearrange(frames, f"B T n -> {self.inside} n")
        for layer, lif in ((self.first, self.lif), (self.second, self.lif2)):
            x = lif(2 * layer(x) + 0.5, steps)
        return rearrange(self.head(x), f"{self.inside} n -> T B n", B=B, T=steps)


class LaidLIF(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, current, steps):
        x = rearrange(current, f"{self.inside} n -> T B n", T=steps)
        return rearrange(LIF()(x), f"T B n -> {self.inside} n")


@pytest.mark.parametrize("samples", [2, 4])
@pytest.mark.parametrize("inside", ["T B", "B T", "(T B)", "(B T)"])
@pytest.mark.parametrize("differs", [False, True])
def test_the_order_of_steps_and_samples_inside_makes_no_difference(inside, samples, differs):
    torch.manual_seed(0)
    a, b = Laid("T B"), Laid(inside)
    b.load_state_dict(a.state_dict())
    if differs:
        b.second.bias.data[5] += 0.5
    subjects = Subject(a, (8,)), Subject(b, (8,))
    found = diff(*subjects, subjects[0].frames(samples))
    assert found.equal != differs
    assert found.layers == 2
    assert not found.silent
    if differs:
        assert (found.parting.a.layer, found.parting.neuron) == ("lif2", (5,))
        assert found.parting.b.current - found.parting.a.current == pytest.approx(1.0)


def test_spikes_of_a_shape_that_cannot_be_read_are_compared_as_they_are():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = nn.Threshold(1.0, 0.0)

        def forward(self, frames):
            spikes = self.neuron(frames.permute(2, 0, 1).flatten())
            return spikes.view(8, *frames.shape[:2]).permute(2, 1, 0)

    subject = Subject(Turned(), (8,))
    assert diff(subject, subject, subject.frames(3)).equal


class PooledCurrents(nn.Module):
    """A stage that pools before its neuron."""

    def __init__(self, stage):
        super().__init__()
        self.stage, self.pool = stage, nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x, repeats):
        neuron, self.stage.neuron = self.stage.neuron, nn.Identity()
        current = self.stage(x, repeats)
        self.stage.neuron = neuron
        return neuron(self.pool(current.flatten(0, 1)).unflatten(0, current.shape[:2]))


def test_a_pool_before_the_neuron_is_named(model):
    other = copy.deepcopy(model)
    other.stem.stages[1] = PooledCurrents(other.stem.stages[1])
    other.stem.pools[1] = nn.Identity()
    found = diff(subject(model), subject(other), subject(model).frames(2))
    assert found.parting.place == 2
    assert found.parting.step is None
    assert (found.parting.a.shape, found.parting.b.shape) == ((16, 4, 4), (16, 2, 2))
    assert found.parting.a.before[-1] == "BatchNorm"
    assert found.parting.b.before[-1] == "MaxPool2d"


class Renamed(nn.Module):
    """The same network by other names, [T, B, ...] to logits [T, B, K]."""

    def __init__(self, network):
        super().__init__()
        self.inner = network

    def forward(self, frames):
        return self.inner.forward_steps(frames.transpose(0, 1))


def test_other_names_are_paired_by_order(model):
    found = diff(subject(model), subject(Renamed(model), time_axis=0), subject(model).frames(2))
    assert found.equal
    assert found.layers == LAYERS


def test_layers_without_a_partner_are_left_out(model):
    other = Spikformer(**TINY | {"depth": 1}).double().eval()
    other.load_state_dict(model.state_dict(), strict=False)
    found = diff(subject(model), subject(Renamed(other), time_axis=0), subject(model).frames(2))
    assert found.layers == LAYERS - 5
    assert found.only_a == tuple(name for name in found.only_a if name.startswith("blocks.1"))
    assert len(found.only_a) == 5
    assert not found.equal


def test_other_classes_are_an_error(model):
    with pytest.raises(ConfigError, match=r"logits have different shapes: \[2, 5\] and \[2, 4\]"):
        diff(subject(model), subject(tiny(num_classes=4)), subject(model).frames(2))


@pytest.mark.parametrize("move_the_pools", [False, True])
def test_spikingjelly_parts_where_its_stem_pools_before_the_neuron(move_the_pools):
    """The authors pool spikes (their stem is ours), SpikingJelly pools currents."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import layer
    from spikingjelly.activation_based.model.spikformer import Spikformer as Theirs

    arguments = {"pools": (False, False, True, True), "num_classes": 5}
    ours = Spikformer(1, 32, 2, **arguments).double()
    enliven(ours, torch.rand(4, 3, 16, 16, dtype=torch.float64))
    theirs = Theirs(
        T=4, img_size_h=16, img_size_w=16, patch_size=4, num_classes=5, embed_dims=32,
        num_heads=2, depths=1,
    ).double()  # fmt: skip
    for module in ours.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)  # theirs have none
    state = [v for k, v in ours.state_dict().items() if not k.endswith("conv.bias")]
    like = theirs.state_dict()
    theirs.load_state_dict({k: v.view_as(like[k]) for k, v in zip(like, state, strict=True)})
    stages = theirs.patch_embed.stages
    for index in (2, 3) if move_the_pools else ():
        *rest, pool = stages[index].conv_bn.block
        stages[index].conv_bn.block = layer.SeqToANNContainer(*rest)
        stages[index] = nn.Sequential(stages[index], layer.SeqToANNContainer(pool))
    a, b = Subject(ours, (3, 16, 16)), Subject(theirs, (3, 16, 16), time_axis=0)
    found = diff(a, b, a.frames(2))
    if move_the_pools:
        assert found.equal
        assert not found.silent
    else:
        assert found.parting.a.layer == "stem.stages.2.neuron"
        assert found.parting.b.layer == "patch_embed.stages.2.neuron"
        assert found.parting.b.before == ("Conv2d", "BatchNorm2d", "MaxPool2d")
