"""Networks that take turns, each in a process of its own, timed and weighed.

Every contender lives in its own process, so that peak memory is its own; all wait while one runs.
Peak memory is the highest resident memory while steps run, after warm-up. What is compiled is compiled
before, in another process, and found in a cache: a compiler leaves half a gigabyte behind.
"""

import contextlib
import ctypes
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from _networks import BUILD, CLASSES, COMPILE
from torch import Tensor, nn

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
    with contextlib.ExitStack() as stack:
        # A cache of its own: PyTorch's key of an entry does not know our operations' bodies.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        players, answers = {}, {}
        for name in contenders:  # one after the other: compilers would slow each other down
            if ", compiled" in name:
                say(f"{name}: compiling")
                with _player(name, setting) as compiler:
                    _ask(compiler, "answer")
            say(f"{name}: warming up")
            players[name] = stack.enter_context(_player(name, setting))
            answers[name] = torch.from_numpy(_ask(players[name], "answer"))
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        end = time.monotonic() + length.seconds
        for turn in range(length.rounds):
            if turn >= LEAST_ROUNDS and time.monotonic() > end:
                break
            say(f"round {turn + 1} of {length.rounds}")
            for name, player in players.items():
                seconds[name].append(_ask(player, "turn"))
        return {
            name: Result(seconds[name], *_ask(player, "memory"), answers[name])
            for name, player in players.items()
        }


@contextlib.contextmanager
def _player(name: str, setting: Setting) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_play, args=(theirs, name, setting))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        with contextlib.suppress(BrokenPipeError):
            ours.send("end")
        process.join()


def _ask(player: Connection, question: str) -> Any:
    try:
        player.send(question)
        return player.recv()
    except (EOFError, BrokenPipeError) as error:
        raise SystemExit(
            "a contender ended early: what it said is above; if nothing, memory ran out, "
            "and fewer contenders at a time may fit"
        ) from error


def _play(connection: Connection, name: str, setting: Setting) -> None:
    torch.set_num_threads(setting.threads)
    library, _, how = name.partition(", ")
    network = BUILD[library]()
    _trim()
    start = _resident("VmRSS")
    COMPILE[how](network)
    step = {"infer": _inference, "train": _training}[setting.kind](network, setting)
    answers: dict[str, Callable[[], Any]] = {
        "answer": lambda: _warm(step),
        "turn": lambda: _timed(step),
        "memory": lambda: (_resident("VmHWM"), _resident("VmHWM") - start),
    }
    while (question := connection.recv()) != "end":
        connection.send(answers[question]())


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


def _warm(step: Callable[[], Tensor]) -> Any:
    """The first answer; then everything is compiled and allocated, and the peak starts anew."""
    answer = step().detach().clone()
    for _ in range(2):
        step()
    _trim()
    Path("/proc/self/clear_refs").write_text("5")
    return answer.numpy()


def _trim() -> None:
    """Give back what was freed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _timed(step: Callable[[], Tensor]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def _resident(line: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at its peak."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    found = re.search(rf"{line}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
