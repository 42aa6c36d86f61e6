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
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from spikformer.training._compiling import compiled
from spikformer.training.environment import git_commit, hardware, versions

Kind = Literal["infer", "train"]
Precision = Literal["fp32", "bf16"]
CONTENDERS = (
    "ours, eager",
    "ours, compiled",
    "ours, compiled, memory budget 0.9",
    "spikingjelly, eager",
    "spikingjelly, compiled",
    "spikingjelly channels-last, eager",
    "spikingjelly channels-last, compiled",
)
CLASSES = 10
LEAST_ROUNDS = 3
LEAST_AGREEMENT = 0.9
"""Of eager and compiled: in bfloat16 spikes on the threshold round apart, and others follow them."""


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


def build_ours() -> nn.Module:
    """Spikformer-4-384, [B, 3, 32, 32] to logits [B, 10]."""
    from spikformer.models import create_model

    torch.manual_seed(0)
    network = create_model("spikformer_4_384_patch4", num_classes=CLASSES)
    _enliven(network)
    return network.to(memory_format=torch.channels_last)


def build_spikingjelly() -> "Stateless":
    """The same of SpikingJelly."""
    from spikingjelly.activation_based.model.spikformer import spikformer_cifar10

    torch.manual_seed(0)
    network = Stateless(spikformer_cifar10(T=4, num_classes=CLASSES))
    _enliven(network)
    return network


BUILD: dict[str, Callable[[], nn.Module]] = {
    "ours": build_ours,
    "spikingjelly": build_spikingjelly,
    "spikingjelly channels-last": lambda: build_spikingjelly().to(
        memory_format=torch.channels_last
    ),
}


def _in_less_memory(network: nn.Module) -> None:
    network.forward = compiled(network.forward, memory_budget=0.9)


COMPILE: dict[str, Callable[[nn.Module], None]] = {
    "eager": lambda _: None,
    "compiled": lambda network: network.compile(dynamic=False),
    "compiled, memory budget 0.9": _in_less_memory,
}


def _enliven(network: nn.Module) -> None:
    """Let a network that was never trained fire in eval mode too."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.constant_(norm.bias, 0.5)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(16, 3, 32, 32))
    for norm in norms:
        norm.momentum = 0.1


class Stateless(nn.Module):
    """SpikingJelly's network as its users run it: reset, all steps, mean over time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self.network.compile(*args, **kwargs)

    def forward(self, images: Tensor) -> Tensor:
        from spikingjelly.activation_based import functional

        functional.reset_net(self.network)
        return self.network(images).mean(0)


def check_same_function() -> float:
    """The largest difference of the libraries' logits in float64, where none may be.

    SpikingJelly pools currents, the authors and we pool spikes: for this check, and for this alone,
    its pools are moved behind its neurons.

    Raises:
        SystemExit: when they differ.
    """
    from spikingjelly.activation_based import layer

    ours, theirs = build_ours(), build_spikingjelly()
    # Both list their layers in the order they run. Ours has biases in front of norms, here 0.
    state = [v for k, v in ours.state_dict().items() if not k.endswith("conv.bias")]
    like = theirs.state_dict()
    theirs.load_state_dict({k: v.view_as(like[k]) for k, v in zip(like, state, strict=True)})
    stages = theirs.network.patch_embed.stages
    for index, stage in enumerate(stages):
        *rest, last = stage.conv_bn.block
        if isinstance(last, nn.MaxPool2d):
            stage.conv_bn.block = layer.SeqToANNContainer(*rest)
            stages[index] = nn.Sequential(stage, layer.SeqToANNContainer(last))
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        logits, others = (network.double().eval()(images) for network in (ours, theirs))
    difference = (logits - others).abs().max().item()
    if not difference < 1e-9 or logits.std() < 1e-3:
        raise SystemExit(f"logits differ by {difference}: nothing is timed")
    return difference


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
    player.send(question)
    try:
        return player.recv()
    except EOFError as error:
        raise SystemExit("a contender ended early; what it said is above") from error


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


@dataclass(frozen=True)
class Options:
    """Which settings to try.

    Args:
        batches: Sizes.
        precisions: `bf16` is mixed precision.
        length: How often they take turns.
        threads: Of each.
        contenders: Who takes part.
        out: Where to write the table as Markdown; it is printed too.
    """

    batches: tuple[int, ...] = (1, 32, 128)
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    length: Length = Length()
    threads: int = 2
    contenders: tuple[str, ...] = CONTENDERS
    out: Path | None = None


def run(kind: Kind, options: Options) -> None:
    """Check, time, weigh, and write down.

    Raises:
        SystemExit: when the libraries compute different functions.
    """
    console = Console(width=160)
    command = shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    named = ", ".join(f"{k} {v}" for k, v in (*versions().items(), _spikingjelly()) if v)
    lines = [
        f"# {kind}",
        "",
        f"`{command}` at {git_commit()}, {datetime.now(UTC):%Y-%m-%d}, {hardware()}; {named}.",
        "",
        f"Spikformer-4-384, 32 x 32 pixels, 4 steps, {options.threads} threads; medians of "
        "alternating rounds, and in brackets the range of the rounds' own ratios.",
        f"Checked first: with its pools moved behind its neurons, SpikingJelly's logits differ from "
        f"ours by {check_same_function():.1e} in float64. It is timed as it is, pools first. The last",
        "column is the cosine of a contender's answer (logits; in training the head's gradient) with "
        "that of its library's eager network.",
        "",
        "| batch | precision | | rounds | images/s | time / ours compiled | time / ours eager "
        "| peak MiB (above start) | ours compiled / its peak | agrees with eager |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for batch in options.batches:
        for precision in options.precisions:
            setting = Setting(kind, batch, precision, options.threads)
            label = f"{kind}, batch {batch}, {precision}"
            with console.status(label) as status:
                found = contest(
                    setting,
                    options.contenders,
                    options.length,
                    lambda what, label=label, status=status: status.update(f"{label}; {what}"),
                )
            rows = list(_rows(setting, found))
            console.print("\n".join(rows))
            lines += rows
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]))


def _rows(setting: Setting, found: dict[str, Result]) -> Iterator[str]:
    for name, result in found.items():
        compared = []
        for how in ("compiled", "eager"):
            ours = found.get(f"ours, {how}")
            compared.append("" if ours is None else _ratio(result, ours))
        shares = ""
        if (ours := found.get("ours, compiled")) is not None:
            shares = (
                f"{ours.peak_mib / result.peak_mib:.0%} ({ours.work_mib / result.work_mib:.0%})"
            )
        yield (
            f"| {setting.batch} | {setting.precision} | {name} | {len(result.seconds)} "
            f"| {setting.batch / result.median:.1f} | {compared[0]} | {compared[1]} "
            f"| {result.peak_mib:.0f} ({result.work_mib:.0f}) | {shares} "
            f"| {_agreement(name, found):.4f} |"
        )


def _ratio(one: Result, other: Result) -> str:
    ratios = [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]
    return f"{one.median / other.median:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _agreement(name: str, found: dict[str, Result]) -> float:
    """The cosine between a contender's answer and that of its library's eager network.

    Raises:
        SystemExit: when they have little in common.
    """
    eager = found.get(name.split(",")[0] + ", eager", found[name])
    answers = (result.answer.flatten().double() for result in (found[name], eager))
    cosine = torch.cosine_similarity(*answers, dim=0).item()
    if not cosine > LEAST_AGREEMENT:
        raise SystemExit(f"{name} computes something else than eager: cosine {cosine:.3f}")
    return cosine


def _spikingjelly() -> tuple[str, str]:
    return "spikingjelly", version("spikingjelly")
