"""A network that is examined, and how it is fed."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikformer.errors import ConfigError, first_line
from spikformer.models import Spikformer


@dataclass(frozen=True)
class Subject:
    """A network in eval mode, and what it takes and returns.

    Args:
        network: Takes frames, and returns logits [T, B, K] or [B, K].
        input_shape: Of one frame of one sample, such as C, H, W.
        steps: $T$.
        time_axis: Where the network wants time among the axes of its input: 1 for [B, T, ...], 0
            for [T, B, ...]. None for still images [B, ...], which it repeats itself.

    Raises:
        ConfigError: when `steps` or `time_axis` make no such input.
    """

    network: nn.Module
    input_shape: Sequence[int]
    steps: int = 4
    time_axis: int | None = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if not self.input_shape or min(self.input_shape) < 1:
            raise ConfigError(
                f"input_shape must be the sides of one frame, got {[*self.input_shape]}"
            )
        if self.time_axis is not None and not 0 <= self.time_axis <= len(self.input_shape) + 1:
            raise ConfigError(
                f"time_axis must be one of the {len(self.input_shape) + 2} axes of the input, "
                f"got {self.time_axis}"
            )

    def frames(self, samples: int, seed: int = 0) -> Float[Tensor, "B T *frame"]:
        """Normal numbers, as normalised images have them; in float64."""
        generator = torch.Generator().manual_seed(seed)
        shape = samples, self.steps, *self.input_shape
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def fresh(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """A copy of the network as it was handed over, on the CPU.

        Raises:
            ConfigError: when it cannot be copied.
        """
        try:
            return copy.deepcopy(self.network).to("cpu", dtype).eval()
        except Exception as error:
            raise ConfigError(f"the network cannot be copied: {first_line(error)}") from error

    def call(
        self,
        network: nn.Module,
        frames: Float[Tensor, "B t *frame"],
        *,
        seed: int = 0,
        compiled: bool = False,
    ) -> Tensor:
        """What the network makes of frames.

        Args:
            network: A copy of the subject's.
            frames: Time second, wherever the network wants it.
            seed: Of what the network may draw.
            compiled: Compile it first.

        Raises:
            ConfigError: when it fails, or returns neither [T, B, K] nor [B, K].
        """
        x = frames[:, 0] if self.time_axis is None else frames.movedim(1, self.time_axis)
        forward = network.forward_steps if isinstance(network, Spikformer) else network
        if compiled:
            forward = torch.compile(forward, dynamic=False)
        with torch.random.fork_rng(devices=[]), _default_dtype(frames.dtype):
            torch.manual_seed(seed)
            try:
                output = forward(x)
            except Exception as error:
                raise ConfigError(
                    f"the network failed on {[*x.shape]}: {first_line(error)}"
                ) from error
        steps, batch = self.steps_of(frames), len(frames)
        found = first_tensor(output)
        shape = () if found is None else found.shape
        by_step = len(shape) > 2 and shape[:2] == (steps, batch)
        if found is None or not (by_step or (len(shape) == 2 and shape[0] == batch)):
            got = type(output).__name__ if found is None else [*found.shape]
            raise ConfigError(
                f"the network must return [T, B, K] or [B, K] with T={steps}, B={batch}, got {got}"
            )
        return found

    @property
    def samples(self) -> int:
        """A batch size that cannot be taken for the number of steps."""
        return 3 if self.steps != 3 else 5

    def steps_of(self, frames: Tensor) -> int:
        return self.steps if self.time_axis is None else frames.shape[1]


def enlivened(subject: Subject) -> Subject:
    """The same network with norms that let its neurons fire.

    As they are built, networks hardly fire in eval mode, and silent ones pass every test. The
    statistics of every batch norm are fitted to its input, and its biases to 0, 1, 2, 3
    in turn: some neurons fire seldom, some often.
    """
    network = subject.fresh()

    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(_fit, with_kwargs=True) for norm in norms]
    with torch.no_grad():
        subject.call(network, subject.frames(subject.samples, seed=1))
    for hook in hooks:
        hook.remove()
    fitted = copy.deepcopy(subject.network)
    for name, module in network.named_modules():
        if module in norms:
            fitted.get_submodule(name).load_state_dict(module.state_dict())
    return replace(subject, network=fitted)


def _fit(norm: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert isinstance(norm, _BatchNorm)
    x = first_tensor((*inputs, *named.values()))
    assert x is not None
    if getattr(norm, "step_mode", "s") == "m":  # SpikingJelly's: [T, B, C, ...]
        x = x.flatten(0, 1)
    x = x.transpose(0, 1).flatten(1)
    for statistic, value in (
        (norm.running_mean, x.mean(1)),
        (norm.running_var, x.var(1, correction=0)),
    ):
        if statistic is not None:
            statistic.copy_(value)
    if norm.affine:
        norm.bias.copy_(torch.arange(len(norm.bias)) % 4)


def first_tensor(output: object) -> Tensor | None:
    """The first tensor of what a module returned: (spikes, state) are spikes."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return next((x for x in map(first_tensor, output) if x is not None), None)
    return None


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let what a network creates on the way, a potential of zeros say, have the type of its input."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
