r"""A network as a list of spiking operations: what the engine runs and its files describe.

No torch in here: an engine loads where there is none. A plan holds no weights; they lie beside it
by name, `<layer>.weight` [taps, C, D] with the norm folded in, `<layer>.bias` [D], and for int8
`<layer>.scale` [D].
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

from spikformer.errors import WeightsError, first_line
from spikformer.export._checks import (
    LARGEST_COUNT,
    LARGEST_PLAN,
    LARGEST_ROW,
    LARGEST_SIDE,
    LARGEST_SIZE,
    check_types,
    finite,
    must,
)

PIXELS, SPIKES, COUNTS = "pixels", "spikes", "counts"
LARGEST_WEIGHT = 128
"""Of 8 bits."""
CHARGES = ("sum", "multiply", "divide")


@dataclass(frozen=True)
class Value:
    """What flows between operations: an image a step, [C, H, W].

    Args:
        storage: `pixels` are real, `spikes` 0 or 1, `counts` sums of spikes.
        maximum: Of its elements; 0 for pixels.
    """

    storage: str
    channels: int
    height: int
    width: int
    maximum: int = 1

    @property
    def size(self) -> int:
        """Elements."""
        return self.channels * self.height * self.width

    @property
    def stored(self) -> int:
        """Elements, with what fills the channels up to words."""
        return -(-self.channels // 64) * 64 * self.height * self.width


@dataclass(frozen=True)
class Neuron:
    r"""How currents become spikes; as `kernels/membrane.py`, in float32.

    Args:
        charge: `sum` is $u = v + x$; `multiply` $u = v + (x - (v - rest))\,rate$; `divide` the same
            with $/\tau$, for time constants that are no powers of two.
        tau: Time constant, in steps.
        rate: $1/\tau$.
        threshold: Fires from here on.
        rest: Where a silent neuron is, and one that fired if the reset is hard.
        soft_reset: Whether a spike subtracts the threshold instead.
    """

    charge: str = "multiply"
    tau: float = 2.0
    rate: float = 0.5
    threshold: float = 1.0
    rest: float = 0.0
    soft_reset: bool = False

    def check(self, where: str) -> None:
        numbers = self.tau, self.rate, self.threshold, self.rest
        must(self.charge in CHARGES, f"{where} has an unknown charge {self.charge!r}")
        must(all(map(finite, numbers)), f"{where} has a constant that is not finite in float32")
        must(self.tau >= 1, f"{where} has tau={self.tau}, below 1")


@dataclass(frozen=True)
class Layer:
    """A linear map or 3 x 3 convolution, the folded norm, a neuron.

    Args:
        name: Of its weights.
        rate: Mean of its input's elements, measured on data; None when it was not.
    """

    kind: ClassVar[str] = "layer"
    name: str
    input: str
    output: str
    kernel: int
    out_channels: int
    neuron: Neuron
    rate: float | None = None

    def infer(self, values: Mapping[str, Value]) -> Value:
        must(self.kernel in (1, 3), f"{self.name} has a kernel of {self.kernel}, not 1 or 3")
        must(0 < self.out_channels < LARGEST_SIDE, f"{self.name} has {self.out_channels} channels")
        is_rate = self.rate is None or (
            type(self.rate) in (int, float) and 0 <= self.rate <= LARGEST_COUNT
        )
        must(is_rate, f"{self.name} has a rate of {self.rate}")
        self.neuron.check(self.name)
        before = values[self.input]
        largest = self.kernel**2 * before.channels * before.maximum * LARGEST_WEIGHT
        must(largest < 2**31, f"{self.name} has sums of up to {largest}, beyond 32 bits")
        return replace(before, storage=SPIKES, channels=self.out_channels, maximum=1)


@dataclass(frozen=True)
class Pool:
    """A 3 x 3 max-pool of stride 2 over spikes: an OR."""

    kind: ClassVar[str] = "pool"
    input: str
    output: str

    def infer(self, values: Mapping[str, Value]) -> Value:
        before = values[self.input]
        must(before.storage == SPIKES, "a pool's input must be spikes")
        return replace(before, height=(before.height + 1) // 2, width=(before.width + 1) // 2)


@dataclass(frozen=True)
class Add:
    """The residual: two values' sum."""

    kind: ClassVar[str] = "add"
    input: str
    other: str
    output: str

    def infer(self, values: Mapping[str, Value]) -> Value:
        one, two = values[self.input], values[self.other]
        must(PIXELS not in (one.storage, two.storage), "pixels cannot be added to spikes")
        shapes = {(v.channels, v.height, v.width) for v in (one, two)}
        must(len(shapes) == 1, "the two sides of a residual differ in shape")
        total = one.maximum + two.maximum
        must(total <= LARGEST_COUNT, f"counts of up to {total} do not fit in a byte")
        return replace(one, storage=COUNTS, maximum=total)


@dataclass(frozen=True)
class Attention:
    r"""$\mathrm{SN}(QK^\top V \cdot s)$ of one layer's spikes: Q, K, V one after the other.

    Args:
        pool: Width in tokens of the max over Q and K; 1 for none.
    """

    kind: ClassVar[str] = "attention"
    name: str
    input: str
    output: str
    heads: int
    scale: float
    neuron: Neuron
    pool: int = 1

    def infer(self, values: Mapping[str, Value]) -> Value:
        before = values[self.input]
        must(before.storage == SPIKES, f"{self.name}: Q, K and V must be spikes")
        fits = self.heads > 0 and before.channels % (3 * self.heads) == 0
        must(fits, f"{self.name}: {before.channels} channels are no 3 x {self.heads} heads")
        odd = 0 < self.pool < LARGEST_SIDE and self.pool % 2 == 1
        must(odd, f"{self.name} has a pool of {self.pool}")
        must(finite(self.scale), f"{self.name} has a scale of {self.scale}")
        self.neuron.check(self.name)
        return replace(before, channels=before.channels // 3)

    def keys_first(self, value: Value) -> bool:
        """Whether $Q(K^T V)$ is the cheaper order for these shapes; exact either way."""
        return value.channels // 3 // self.heads < value.height * value.width


@dataclass(frozen=True)
class Head:
    """The mean over tokens and steps, and a linear classifier in float32."""

    kind: ClassVar[str] = "head"
    name: str
    input: str
    classes: int
    output: str = "logits"

    def infer(self, values: Mapping[str, Value]) -> Value:
        before = values[self.input]
        must(before.storage != PIXELS, "the head's input must be spikes or counts")
        must(0 < self.classes < LARGEST_SIDE, f"the head has {self.classes} classes")
        return Value(PIXELS, self.classes, 1, 1, 0)


Operation = Layer | Pool | Add | Attention | Head
KINDS: Mapping[str, Any] = MappingProxyType(
    {kind.kind: kind for kind in (Layer, Pool, Add, Attention, Head)}
)
INPUT = "images"


@dataclass(frozen=True)
class Plan:
    """Operations in order, and the images they begin with.

    Args:
        channels, height, width: Of an image.
        steps: How often a still image is seen; of frames, how many the example had.
        operations: Each reads what an earlier one wrote; the last is the head.
        still: Whether it sees still images: a plan made from frames does not know how often.
    """

    channels: int
    height: int
    width: int
    steps: int
    operations: tuple[Operation, ...]
    still: bool = True

    def values(self) -> dict[str, Value]:
        """All values by name, inferred from the images on.

        Raises:
            WeightsError: where an operation does not fit its input.
        """
        sides = self.channels, self.height, self.width, self.steps
        must(all(0 < side < LARGEST_SIDE for side in sides), f"images are {sides}")
        known = {INPUT: Value(PIXELS, self.channels, self.height, self.width, 0)}
        total, named = known[INPUT].stored * self.steps, set()  # weights and states lie under these
        for operation in self.operations:
            for name in inputs_of(operation):
                must(name in known, f"an operation reads {name!r}, which none wrote before")
            must(operation.output not in known, f"{operation.output!r} is written twice")
            name = getattr(operation, "name", None)
            must(name is None or name not in named, f"two operations are called {name!r}")
            named.add(name)
            known[operation.output] = value = operation.infer(known)
            small = value.size * max(value.maximum, 1) * self.steps < LARGEST_SIZE
            fits = small and value.channels * value.width <= LARGEST_ROW
            must(fits, f"{operation.output!r} is too large: {value}")
            total += value.stored * self.steps
            must(total < LARGEST_PLAN, f"{total} elements until {operation.output!r} are too many")
        heads = [isinstance(operation, Head) for operation in self.operations]
        must(sum(heads) == 1 and heads[-1], "a plan ends with its one head")
        return known

    @property
    def head(self) -> Head:
        head = self.operations[-1]
        assert isinstance(head, Head)
        return head

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(each for each in self.operations if isinstance(each, Layer))

    def to_json(self) -> str:
        operations = [{"kind": each.kind, **asdict(each)} for each in self.operations]
        return json.dumps({**vars(self), "operations": operations})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `to_json` wrote, and check that it fits together.

        Raises:
            WeightsError: when it is no plan.
        """
        try:
            parts = json.loads(text)
            operations = tuple(_operation(each) for each in parts.pop("operations"))
            plan = cls(**parts, operations=operations)
            check_types(plan)
            plan.values()
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, WeightsError):
                raise
            raise WeightsError(f"this is no plan of an engine: {first_line(error)}") from error
        return plan


def inputs_of(operation: Operation) -> tuple[str, ...]:
    return (operation.input, operation.other) if isinstance(operation, Add) else (operation.input,)


def _operation(parts: dict[str, Any]) -> Operation:
    kind = KINDS[parts.pop("kind")]
    if "neuron" in parts:
        parts["neuron"] = Neuron(**parts["neuron"])
        check_types(parts["neuron"])
    operation = kind(**parts)
    check_types(operation)
    return operation
