"""Plans of random networks for the engine: no model behind them, and no torch."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from spikformer.engine import Engine
from spikformer.engine.reference import reference
from spikformer.export import Add, Attention, Head, Layer, Neuron, Plan, Pool
from spikformer.export.plan import CHARGES, INPUT

GRID = 1 / 8
"""Float32 weights are multiples of it, so that no sum is rounded."""


@dataclass
class Builder:
    """A plan, operation by operation, with weights that are drawn as it grows.

    Args:
        still: Whether images come without steps of their own.
        neuron: Of what names none.
        largest: Integer weights reach from -largest to largest.
    """

    channels: int = 3
    height: int = 4
    width: int = 4
    steps: int = 3
    still: bool = True
    precision: str = "float32"
    neuron: Neuron = field(default_factory=Neuron)
    largest: int = 127
    seed: int = 0

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)
        self.operations, self.arrays = [], {}
        self.last = INPUT

    @property
    def values(self):
        return self.plan.values()

    @property
    def plan(self):
        """With a head, though it may not be there yet."""
        ended = self.operations and isinstance(self.operations[-1], Head)
        head = [] if ended else [Head("head", self.last, 1)]
        operations = self.operations + head if self.operations else []
        return Plan(self.channels, self.height, self.width, self.steps, tuple(operations))

    def _emit(self, operation):
        self.operations.append(operation)
        self.last = operation.output
        return operation.output

    def layer(self, out_channels, kernel=1, *, neuron=None, bias=None, rate=None, density=1.0):
        """A layer on what came last.

        Args:
            bias: Of all channels; None draws it so that about every other neuron fires.
            density: Share of the weights that are not zero.
        """
        name = f"layer{len(self.operations)}"
        channels = self._channels()
        shape = kernel**2, channels, out_channels
        fan_in = kernel**2 * channels * density
        if self.precision == "int8" and self.last != INPUT:
            weight = self.random.integers(-self.largest, self.largest, shape, endpoint=True)
            weight = weight.astype(np.int8)
            scale = self.random.uniform(0.5, 2, out_channels) * 2 / self.largest / fan_in**0.5
            self.arrays[f"{name}.scale"] = scale.astype(np.float32)
        else:
            weight = np.rint(self.random.normal(0, 8, shape) * 2 / fan_in**0.5) * GRID
            weight = weight.astype(np.float32)
        self.arrays[f"{name}.weight"] = weight * (self.random.random(shape) < density).astype(
            weight.dtype
        )
        drawn = self.random.normal(1, 1, out_channels)
        self.arrays[f"{name}.bias"] = (
            drawn if bias is None else np.full(out_channels, bias)
        ).astype(np.float32)
        output = f"{name}.spikes"
        return self._emit(
            Layer(name, self.last, output, kernel, out_channels, neuron or self.neuron, rate)
        )

    def pool(self):
        return self._emit(Pool(self.last, f"{self.last}.pooled"))

    def add(self, other):
        return self._emit(Add(self.last, other, f"sum{len(self.operations)}"))

    def attention(self, heads, *, pool=1, scale=0.3, neuron=None):
        """On what came last, which has 3 x heads x width channels."""
        name = f"attention{len(self.operations)}"
        output = f"{name}.spikes"
        return self._emit(
            Attention(name, self.last, output, heads, scale, neuron or self.neuron, pool)
        )

    def head(self, classes=4):
        channels = self._channels()
        self.arrays["head.weight"] = self.random.normal(size=(classes, channels)).astype(np.float32)
        self.arrays["head.bias"] = self.random.normal(size=classes).astype(np.float32)
        return self._emit(Head("head", self.last, classes))

    def images(self, count):
        """Multiples of a sixteenth between 0 and 1."""
        times = () if self.still else (self.steps,)
        shape = count, *times, self.channels, self.height, self.width
        return (self.random.integers(0, 17, shape) / 16).astype(np.float32)

    def _channels(self):
        return self.channels if self.last == INPUT else self.values[self.last].channels


def assert_equals_reference(built, images, **options):
    """Every value, the logits, and those of each step, to the bit. Returns the engine."""
    engine = Engine(built.plan, built.arrays, **options)
    expected = reference(built.plan, built.arrays, images)
    assert_answers(engine, images, expected)
    return engine


def assert_answers(engine, images, expected):
    traced = engine.trace(images)
    assert traced.keys() == expected.values.keys()
    for name, value in expected.values.items():
        np.testing.assert_array_equal(traced[name], value, err_msg=name)
    np.testing.assert_array_equal(engine(images), expected.logits)
    np.testing.assert_array_equal(engine.forward_steps(images), expected.step_logits)


CHANNELS = (1, 2, 3, 5, 15, 16, 17, 31, 33, 48, 63, 64, 65, 95, 96, 100, 127, 128, 129, 130)
SIDES = (1, 2, 3, 4, 5, 7)
HEAD_WIDTHS = (1, 3, 8, 9, 16, 20, 33, 64, 67, 100)
channels = st.sampled_from(CHANNELS)


@st.composite
def neurons(draw):
    tau = draw(st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0]))
    return Neuron(
        charge=draw(st.sampled_from(CHARGES)),
        tau=tau,
        rate=1 / tau,
        threshold=draw(st.sampled_from([0.5, 0.8, 1.0])),
        rest=draw(st.sampled_from([0.0, -0.4, 0.25])),
        soft_reset=draw(st.booleans()),
    )


@st.composite
def networks(draw, precision=None):
    """Some layers, pools, residuals and attentions, with a head."""
    built = Builder(
        channels=draw(st.integers(1, 4)),
        height=draw(st.sampled_from(SIDES)),
        width=draw(st.sampled_from(SIDES)),
        steps=draw(st.integers(1, 5)),
        still=draw(st.booleans()),
        precision=precision or draw(st.sampled_from(["float32", "int8"])),
        neuron=draw(neurons()),
        seed=draw(st.integers(0, 2**16)),
    )
    kernels = st.sampled_from([1, 3])
    built.layer(draw(channels), draw(kernels))
    for part in draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3)):
        part(draw, built)
    built.head(draw(st.integers(1, 11)))
    return built


def _add_layer(draw, built):
    bias = draw(st.sampled_from([None, None, None, -1000.0, 1000.0]))
    built.layer(draw(channels), draw(st.sampled_from([1, 3])), bias=bias, neuron=draw(neurons()))


def _add_pool(draw, built):
    if built.values[built.last].storage == "spikes":
        built.pool()


def _add_residual(draw, built):
    before = built.last
    value = built.values[before]
    if 2 * value.maximum + 1 > 255:
        return
    built.add(before)
    if draw(st.booleans()):
        counts = built.last
        built.layer(value.channels, draw(st.sampled_from([1, 3])))
        built.add(counts)


def _add_attention(draw, built):
    heads, width = draw(st.integers(1, 3)), draw(st.sampled_from(HEAD_WIDTHS))
    built.layer(3 * heads * width)
    built.attention(
        heads,
        pool=draw(st.sampled_from([1, 1, 3, 5])),
        scale=draw(st.sampled_from([0.125, 0.3, 1.0])),
        neuron=draw(neurons()),
    )


PARTS = (_add_layer, _add_pool, _add_residual, _add_attention)


def counts_up_to_255(built):
    """Add the value that came last to itself and to its sums until counts reach 255."""
    doubled = [built.last]
    for _ in range(7):
        doubled.append(built.add(doubled[-1]))
    total = doubled[0]
    for other in doubled[1:]:
        built.last = total
        total = built.add(other)
    assert all(one != two for one, two in pairwise(doubled))
    assert built.values[total].maximum == 255
    return total
