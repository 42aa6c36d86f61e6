"""Networks that take turns, each in a process of its own, timed and weighed.

Every contender lives in its own process, so that peak memory is its own; all wait while one runs.
Peak memory is the highest resident memory while steps run, after warm-up. What is compiled is compiled
before, in another process, and found in a cache: a compiler leaves half a gigabyte behind.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from _networks import BUILD, CLASSES, COMPILE
from torch import Tensor, nn

from spikformer.bench.contest import compilers_cache
from spikformer.bench.processes import Failed, elsewhere, forget_peak, resident, trim

Kind = Literal["infer", "train"]
Precision = Literal["fp32", "bf16"]
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Setting:
    """What all contenders do.

    Args:
        kind: `infer`, or `train`: forward, backward and AdamW.
        batch: Images, 3 x 32 x 32.
        precision: `bf16` is mixed precision (autocast).
        threads: Of each process.
    """

    kind: Kind
    batch: int
    precision: Precision
    threads: int


@dataclass(frozen=True)
class Length:
    """How often contenders take turns.

    Args:
        rounds: At most.
        seconds: After which no new round begins, once there were three.
    """

    rounds: int = 9
    seconds: float = 120.0


@dataclass(frozen=True)
class Result:
    """What one contender did.

    Args:
        seconds: Of each turn.
        peak_mib: Highest resident memory of its process.
        work_mib: How much of that came after the network was built.
        answer: What it computed for the same images, before anything was timed: logits, or in
            training the gradient of the head.
    """

    seconds: list[float]
    peak_mib: float
    work_mib: float
    answer: Tensor

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def contest(
    setting: Setting, contenders: Sequence[str], length: Length, say: Callable[[str], None]
) -> dict[str, Result]:
    """Let all contenders take turns."""
    try:
        return _contest(setting, contenders, length, say)
    except Failed as failure:
        raise SystemExit(f"{failure}; fewer contenders at a time may fit") from failure


def _contest(
    setting: Setting, contenders: Sequence[str], length: Length, say: Callable[[str], None]
) -> dict[str, Result]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(compilers_cache())
        players, answers = {}, {}
        for name in contenders:  # one after the other: compilers would slow each other down
            if ", compiled" in name:
                say(f"{name}: compiling")
                with elsewhere(_Player, name, setting) as compiler:
                    compiler.ask("answer")
            say(f"{name}: warming up")
            players[name] = stack.enter_context(elsewhere(_Player, name, setting))
            answers[name] = torch.from_numpy(players[name].ask("answer"))
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        end = time.monotonic() + length.seconds
        for turn in range(length.rounds):
            if turn >= LEAST_ROUNDS and time.monotonic() > end:
                break
            say(f"round {turn + 1} of {length.rounds}")
            for name, player in players.items():
                seconds[name].append(player.ask("turn"))
        return {
            name: Result(seconds[name], *player.ask("memory"), answers[name])
            for name, player in players.items()
        }


class _Player:
    """A contender in its process."""

    def __init__(self, name: str, setting: Setting) -> None:
        torch.set_num_threads(setting.threads)
        library, _, how = name.partition(", ")
        network = BUILD[library]()
        trim()
        self.start_mib = resident("VmRSS")
        COMPILE[how](network)
        self.step = {"infer": _inference, "train": _training}[setting.kind](network, setting)

    def answer(self) -> np.ndarray:
        """The first answer; then everything is compiled and allocated, and the peak starts anew."""
        answer = self.step().detach().clone()
        for _ in range(2):
            self.step()
        forget_peak()
        return answer.numpy()

    def turn(self) -> float:
        begun = time.perf_counter()
        self.step()
        return time.perf_counter() - begun

    def memory(self) -> tuple[float, float]:
        peak = resident("VmHWM")
        return peak, peak - self.start_mib


def _inference(network: nn.Module, setting: Setting) -> Callable[[], Tensor]:
    images, _ = _batch(setting)
    network.eval()

    def step() -> Tensor:
        with torch.inference_mode(), _autocast(setting):
            return network(images).float()

    return step


def _training(network: nn.Module, setting: Setting) -> Callable[[], Tensor]:
    images, labels = _batch(setting)
    network.train()
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step() -> Tensor:
        with _autocast(setting):
            loss = F.cross_entropy(network(images).float(), labels)
        loss.backward()
        gradient = parameters[-1].grad
        optimizer.step()
        optimizer.zero_grad()
        return gradient

    return step


def _batch(setting: Setting) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(setting.batch, 3, 32, 32, generator=generator)
    return images, torch.randint(CLASSES, (setting.batch,), generator=generator)


def _autocast(setting: Setting) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=setting.precision == "bf16")
