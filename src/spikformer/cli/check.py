"""`spikformer check MODEL-or-RUN-or-WEIGHTS-or-FILE.py:CLASS`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from spikformer._files import replacing
from spikformer.cli._networks import Shape, TimeAxis, find_network
from spikformer.cli._options import chosen, console, run

if TYPE_CHECKING:
    from spikformer.probe import Verdict


def main(arguments: Sequence[str]) -> int:
    return run("check", check_command, arguments)


def check_command(
    source: Annotated[str, tyro.conf.Positional],
    input_shape: Shape | None = None,
    steps: int | None = None,
    time_axis: TimeAxis | None = None,
    compiled: bool = False,
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    neuron: str | None = None,
    attention: str | None = None,
) -> int:
    """Whether a spiking network keeps samples and steps apart, and spikes 0 and 1.

    Exits with 1 when it fails anything. Each run starts from a copy of the network as it was built.

    Args:
        source: A model's name, the folder of a run, a file of weights, or file.py:Class, which takes
            frames [B, T, ...] and returns logits [T, B, K] or [B, K].
        input_shape: Of one frame: 3 32 32.
        steps: Time steps T.
        time_axis: Where a class of your own wants time: 1 by default; 0 for [T, B, ...]; none for
            still images.
        compiled: Compile it too, and compare. Takes a minute.
        out: Where to write the verdicts.
        neuron: A neuron of your own in one of our models: file.py:Class.
        attention: An attention, likewise.
    """
    from spikformer.probe import check

    own = chosen(neuron=neuron, attention=attention)
    subject, trained = find_network(
        source, input_shape=input_shape, steps=steps, time_axis=time_axis, **own
    )
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
        with replacing(out) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n")
        console.print(f"written: {out}")
    return int(any(verdict.failed for verdict in verdicts))


def _line(verdict: "Verdict") -> str:
    line = f"{verdict.status:<17}  {verdict.check:<32}  {verdict.words}"
    if verdict.layer is not None:
        line += f"; first in {verdict.layer}"
    if verdict.difference_layer_units is not None:
        line += f", by {verdict.difference_layer_units:.3g}"
    return line
