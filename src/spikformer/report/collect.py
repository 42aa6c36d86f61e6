"""Everything that the page of a run shows, as one dictionary."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from spikformer._files import replacing
from spikformer.errors import ConfigError, DataError
from spikformer.models import Spikformer, load_model
from spikformer.report.costs import by_step, energy_section
from spikformer.report.explorer import explorer_section
from spikformer.report.looks import Looks, Watched, look
from spikformer.report.pictures import one_of_each, packed_bytes
from spikformer.report.portable import portable, why_not
from spikformer.report.sections import (
    anytime_section,
    confusion_section,
    curves_section,
    environment_section,
    mistakes_section,
    rates_section,
    run_section,
)
from spikformer.training.evaluation import Evaluation, Subject, evaluate, find_subject
from spikformer.training.run import Run

SPLIT = "test"
SAMPLES = 1000
"""Images that are looked at, unless asked."""


def collect(
    source: str | os.PathLike[str],
    *,
    root: Path | None = None,
    samples: int = SAMPLES,
    console: Console | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Everything that the page of a run shows. Arguments as in `write_report`.

    Raises:
        ConfigError: when `samples` is no positive number, and as `evaluate`.
        DataError: when the run is not finished, and as `evaluate`.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    run = Run(Path(source))
    if run.path.is_file():
        raise DataError(f"{str(run.path)!r} is a file: a report is about the folder of a run")
    if not run.is_finished():
        epochs, of = run.outcome()["epochs"], run.recipe().trainer.epochs
        raise DataError(
            f"{str(run.path)!r} is not finished, {epochs} of {of} epochs: "
            f"go on with spikformer train --resume {run.path}"
        )
    subject = find_subject(run.path, data=None, root=root, split=SPLIT)
    evaluation = _evaluation(run, subject, root, console, overrides)
    model = load_model(subject.weights, **overrides)
    assert isinstance(model, Spikformer)
    watched = _watched(console)
    looks = look(subject, model, SPLIT, samples, watched)
    energy = energy_section(looks)
    reason = why_not(model, subject.card, subject.data)
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "run": run_section(run, subject.card, evaluation, parameters),
        "curves": curves_section(run),
        "confusion": confusion_section(looks),
        "mistakes": mistakes_section(looks),
        "rates": rates_section(looks),
        "explorer": explorer_section(looks, watched),
        "energy": energy,
        "anytime": anytime_section(looks, by_step(looks, watched), energy["unit"]),
        "environment": environment_section(run, evaluation),
        "network": None if reason else portable(model, subject.card),
        "why_not": reason,
        "examples": [] if reason else _examples(looks),
    }


def _evaluation(
    run: Run, subject: Subject, root: Path | None, console: Console | None, overrides: Any
) -> dict[str, Any]:
    """What `spikformer evaluate` wrote of these weights, or writes now."""
    path = run.path / f"evaluation-{SPLIT}.json"
    if path.is_file():
        try:
            found = Evaluation(**json.loads(path.read_text()))
            of = found.facts, found.data, found.split_hash
            if of == (subject.card.facts, subject.data.name, subject.data.split_hash):
                return found.to_dict()
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no evaluation: {error}; delete it") from error
    found = evaluate(run.path, root=root, split=SPLIT, console=console, **overrides).to_dict()
    with replacing(path) as partial:
        partial.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _watched(console: Console | None) -> Watched:
    def watched(loop: Iterable[Any], text: str) -> Iterable[Any]:
        quiet = console or Console(quiet=True)
        return track(loop, text, console=quiet, disable=console is None, transient=True)

    return watched


def _examples(looks: Looks) -> list[dict[str, Any]]:
    """Images to begin with: one of each class."""
    classes = looks.subject.data.classes
    some = one_of_each(looks.labels, len(classes))
    return [
        {"name": classes[int(looks.labels[at])], "pixels": packed_bytes(pixels.float())[0]}
        for at, pixels in zip(some.tolist(), looks.sized(some), strict=True)
    ]
