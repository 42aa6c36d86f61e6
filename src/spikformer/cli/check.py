"""`spikformer check MODEL-or-RUN-or-WEIGHTS-or-FILE.py:CLASS`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from spikformer.cli._networks import Options, find_network
from spikformer.cli._options import console, run, write_json

if TYPE_CHECKING:
    from spikformer.probe import Verdict

DEFAULTS = Options()


def main(arguments: Sequence[str]) -> int:
    return run("check", check_command, arguments)


def check_command(
    source: Annotated[str, tyro.conf.Positional],
    network: Annotated[Options, tyro.conf.OmitArgPrefixes] = DEFAULTS,
    compiled: bool = False,
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Whether a spiking network keeps samples and steps apart, and spikes 0 and 1.

    Exits with 1 when it fails anything. Each run starts from a copy of the network as it was built.

    Args:
        source: A model's name, the folder of a run, a file of weights, or file.py:Class, which takes
            frames [B, T, ...] and returns logits [T, B, K] or [B, K].
        network: What it takes.
        compiled: Compile it too, and compare. Takes a minute.
        out: Where to write the verdicts.
    """
    from spikformer.probe import check

    subject, trained = find_network(source, network)
    verdicts = check(
        subject.network,
        subject.input_shape,
        steps=subject.steps,
        time_axis=subject.time_axis,
        trained=trained,
        compiled=compiled,
    )
    shape = " x ".join(map(str, subject.input_shape))
    console.print(f"{source}: {subject.samples} samples of {subject.steps} steps, {shape}, float64")
    for verdict in verdicts:
        console.print(_line(verdict))
    if out is not None:
        facts = {
            "source": source,
            "input_shape": [*subject.input_shape],
            "steps": subject.steps,
            "samples": subject.samples,
            "verdicts": [verdict.to_dict() for verdict in verdicts],
        }
        write_json(out, facts)
    return int(any(verdict.failed for verdict in verdicts))


def _line(verdict: "Verdict") -> str:
    line = f"{verdict.status:<17}  {verdict.check:<32}  {verdict.words}"
    if verdict.layer is not None:
        line += f"; first in {verdict.layer}"
    if verdict.difference_layer_units is not None:
        line += f", by {verdict.difference_layer_units:.3g}"
    return line
