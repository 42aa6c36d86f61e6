"""`spikformer diff A B`, and `spikformer diff A --precisions 32 bf16`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from spikformer.cli._networks import Options, find_network
from spikformer.cli._options import console, run, write_json
from spikformer.errors import ConfigError
from spikformer.recipe import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from spikformer.probe.diff import Difference, Parting, Side
    from spikformer.probe.subject import Subject

DEFAULTS = Options()


def main(arguments: Sequence[str]) -> int:
    return run("diff", diff_command, arguments)


def diff_command(
    a: Annotated[str, tyro.conf.Positional],
    b: Annotated[str | None, tyro.conf.Positional] = None,
    precisions: tuple[Precision, Precision] = ("64", "64"),
    network: Annotated[Options, tyro.conf.OmitArgPrefixes] = DEFAULTS,
    data: str | None = None,
    root: Path | None = None,
    samples: int | None = None,
    seed: int = 0,
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """The first layer, step and neuron where two networks part on the same input.

    Exits with 1 when they part, with 0 when every spike agrees and logits differ by rounding alone.

    Args:
        a: A model's name, the folder of a run, a file of weights, or file.py:Class.
        b: Another. Left out, it is the first one in another precision.
        precisions: What each computes in: 32, 64, or mixed bf16 or 16.
        network: What both take; one that knows its own tells the other.
        data: Show both the first test samples of this data set; by default they see random frames.
        root: Folder with the data set's official files.
        samples: How many; by default 3, or 5 where there are 3 steps: other than the steps.
        seed: Of the random frames.
        out: Where to write what was found.
    """
    from spikformer.probe.diff import diff

    if b is None and precisions[0] == precisions[1]:
        raise ConfigError("diff wants two networks, or two precisions: --precisions 32 bf16")
    if samples is not None and samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    first, second = _both(a, b or a, network)
    samples = first.samples if samples is None else samples
    frames = first.frames(samples, seed) if data is None else _frames_of(data, root, samples, first)
    found = diff(first, second, frames, precisions=precisions)
    names = [f"{name} ({p})" for name, p in zip((a, b or a), precisions, strict=True)]
    for line in _lines(found, names):
        console.print(line)
    if out is not None:
        write_json(out, {"a": names[0], "b": names[1], **found.to_dict()})
    return int(not found.equal)


def _both(a: str, b: str, options: Options) -> list["Subject"]:
    """Both networks. What one knows of its input holds for the other, unless it is said."""
    from spikformer.probe.subject import enlivened

    mixed = (":" in a) != (":" in b)
    found: dict[int, Subject] = {}
    # Classes of one's own come last: they know neither shape nor steps.
    for place, source in sorted(enumerate((a, b)), key=lambda item: ":" in item[1]):
        foreign = ":" in source
        said = _fitting(options, foreign) if mixed else options
        subject, trained = find_network(source, said)
        # A model as it is built hardly fires, and two silent networks are equal.
        found[place] = subject if trained or foreign else enlivened(subject)
        options = replace(options, input_shape=tuple(subject.input_shape), steps=subject.steps)
    return [found[0], found[1]]


def _fitting(options: Options, foreign: bool) -> Options:
    """The options that have a meaning for one of two networks of different kinds."""
    if foreign:
        return replace(options, neuron=None, attention=None)
    return replace(options, time_axis=None)


def _frames_of(name: str, root: Path | None, samples: int, subject: "Subject") -> "Tensor":
    """The first test samples of a data set, brought to the size that the network takes."""
    import torch

    from spikformer.data import load_data
    from spikformer.data.pixels import Pixels

    found = load_data(name, root)
    if found.input_size[0] != subject.input_shape[0]:
        raise ConfigError(
            f"{name} has {found.input_size[0]} channels, the networks take {subject.input_shape[0]}"
        )
    first = torch.arange(min(samples, len(found.test)))
    images = Pixels(found.mean, found.std, subject.input_shape[-1])(found.test.images[first])
    still = images.dim() == 4
    return images[:, None].expand(-1, subject.steps, -1, -1, -1) if still else images


def _lines(found: "Difference", names: list[str]) -> list[str]:
    lines = []
    if found.parting is None:
        head = "" if found.equal else "they part behind the last neuron: "
        lines.append(f"{head}every spike agrees; layers of neurons: {found.layers}")
    else:
        lines += _parting(found.parting, found.layers, names)
    for name, only in zip(names, (found.only_a, found.only_b), strict=True):
        if only:
            lines.append(f"not compared, only in {name}: {', '.join(only)}")
    if found.silent:
        lines.append(f"{found.silent} of the layers never fired: little is compared there")
    lines.append(f"logits differ by {found.largest_logit_difference:.3g} at most")
    return lines


def _parting(parting: "Parting", layers: int, names: list[str]) -> list[str]:
    sides = parting.a, parting.b
    layer = parting.a.layer
    if parting.b.layer != layer:
        layer += f" and {parting.b.layer}"
    lines = [f"they part in layer {parting.place} of {layers}: {layer}"]
    if parting.step is None:
        lines += [
            f"  {name}: {' x '.join(map(str, side.shape))} neurons, after {', '.join(side.before)}"
            for name, side in zip(names, sides, strict=True)
        ]
        return lines
    lines.append(
        f"  first at step {parting.step}, sample {parting.sample}, neuron {[*(parting.neuron or ())]}"
    )
    lines += [f"  {name}: {_state(side)}" for name, side in zip(names, sides, strict=True)]
    lines.append(
        f"  {parting.spikes_that_differ} spikes of the layer differ, {parting.spikes_share:.2%}"
    )
    return lines


def _state(side: "Side") -> str:
    said = "spike" if side.spike else "no spike"
    if side.current is not None:
        said += f", current {side.current:.9g}"
    if side.potential is not None:
        said += f", potential {side.potential:.9g}, {side.above_threshold:+.3g} to the threshold"
    return said
