"""A contest for every setting, and its table."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from _contest import Kind, Length, Precision, Result, Setting, contest
from _networks import CONTENDERS, check_same_function
from rich.console import Console

from spikformer.training.environment import git_commit, hardware, versions

LEAST_AGREEMENT = 0.9
"""Of eager and compiled: in bfloat16 spikes on the threshold round apart, and others follow them."""


@dataclass(frozen=True)
class Options:
    """Which settings to try.

    Args:
        batches: Sizes.
        precisions: `bf16` is mixed precision.
        length: How often they take turns.
        threads: Of each.
        contenders: Who takes part.
        out: Markdown file to which the table is added; it is printed too.
    """

    batches: tuple[int, ...] = (1, 32, 128)
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    length: Length = field(default_factory=Length)
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
            _add(options.out, [*lines, *rows])
            lines = []
    _add(options.out, [""])


def _add(out: Path | None, lines: list[str]) -> None:
    if out is not None:
        with out.open("a") as file:
            file.write("\n".join([*lines, ""]))


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
