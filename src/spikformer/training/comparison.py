"""Runs side by side: what they were told, what they reached, and when."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikformer.errors import ConfigError, DataError
from spikformer.training.run import Run, read_curve

FACTS = (
    "status",
    "protocol",
    "precision",
    "epochs",
    "hours",
    "best_epoch",
    "validation_top1",
    "test_top1",
    "top1_paper_protocol",
    "split_hash",
    "git_commit",
    "hardware",
)
ACCURACIES = ("validation_top1", "test_top1", "eval_top1")
"""Columns of a curve that can be compared, the first that is there."""
MILESTONES = (0, 1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 75, 100, 150, 200, 250, 300, 350, 400)
"""Epochs worth a line, denser where curves are steep."""


@dataclass(frozen=True)
class Comparison:
    """Several runs, each a column.

    Args:
        names: Of the runs.
        facts: What they are and reached. A run that does not say has None.
        settings: Fields of their recipes that are not the same in all; "" for what has no recipe.
        curves: Epoch to accuracy, a share.
        measured: Which accuracy each curve holds.
    """

    names: tuple[str, ...]
    facts: Mapping[str, tuple[Any, ...]]
    settings: Mapping[str, tuple[Any, ...]]
    curves: Mapping[int, tuple[float | None, ...]]
    measured: tuple[str, ...]

    def milestones(self) -> list[int]:
        """The epochs of `MILESTONES`, and the last one of every run."""
        columns = zip(*self.curves.values(), strict=True)
        ends = {
            max(e for e, a in zip(self.curves, column, strict=True) if a is not None)
            for column in columns
            if any(a is not None for a in column)
        }
        return [epoch for epoch in self.curves if epoch in ends or epoch in MILESTONES]


def compare(sources: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Compare runs.

    Args:
        sources: Folders of runs; or somebody else's curve, a CSV with `epoch` and one of
            `validation_top1`, `test_top1`, `eval_top1`, in shares or in percent.

    Raises:
        ConfigError: when there are fewer than two.
        DataError: when one is neither.
    """
    if len(sources) < 2:
        raise ConfigError(f"a comparison needs two runs or more, got {len(sources)}")
    paths = [Path(source) for source in sources]
    found = [_of_curve(path) if path.is_file() else _of_run(Run(path)) for path in paths]
    fields = _union(settings for _, settings, _, _ in found)
    settings = {field: tuple(s.get(field, "") for _, s, _, _ in found) for field in fields}
    curves = [curve for _, _, curve, _ in found]
    return Comparison(
        names=_names(paths),
        facts={fact: tuple(facts.get(fact) for facts, _, _, _ in found) for fact in FACTS},
        settings={f: values for f, values in settings.items() if len(set(values) - {""}) > 1},
        curves={epoch: tuple(c.get(epoch) for c in curves) for epoch in sorted(_union(curves))},
        measured=tuple(measured for _, _, _, measured in found),
    )


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """As short as they can be and still differ."""
    ends = tuple(path.name for path in paths)
    return ends if len(set(ends)) == len(ends) else tuple(str(path) for path in paths)


Column = tuple[dict[str, Any], dict[str, Any], dict[int, float], str]
"""Facts, settings, curve, and which accuracy it holds."""


def _of_run(run: Run) -> Column:
    facts = run.facts() | run.outcome()
    evaluation = run.path / "evaluation-test.json"
    if evaluation.is_file():
        try:
            facts["test_top1"] = json.loads(evaluation.read_text())["top1"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{evaluation} is damaged: {error}") from error
    settings = {
        f"{part}.{name}": str(value)
        for part, values in facts["recipe"].items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    curve, measured = _accuracies(read_curve(run.curve))
    return facts, settings, curve, measured


def _of_curve(path: Path) -> Column:
    curve, measured = _accuracies(read_curve(path))
    if not curve:
        raise DataError(f"{path} is no curve: it needs epoch and one of {', '.join(ACCURACIES)}")
    in_percent = max(curve.values()) > 1
    return {}, {}, {e: a / 100 if in_percent else a for e, a in curve.items()}, measured


def _accuracies(rows: Sequence[Mapping[str, float]]) -> tuple[dict[int, float], str]:
    for name in ACCURACIES:
        curve = {int(row["epoch"]): row[name] for row in rows if name in row}
        if curve:
            return curve, name
    return {}, ""


def _union(mappings: Iterable[Mapping[Any, Any]]) -> list[Any]:
    """All keys, in the order they are first seen."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
