"""The folder that training writes."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikformer._files import replacing
from spikformer.errors import DataError
from spikformer.recipe import Recipe

BEST_ON_VALIDATION, LAST_EPOCH = "best on validation", "last epoch"
"""The protocols: which epoch's weights are the run's."""
CURVE_COLUMNS: tuple[str, ...] = (
    "epoch",
    "lr",
    "train_loss",
    "validation_loss",
    "validation_top1",
    "test_loss",
    "test_top1",
    "firing_rate",
    "seconds",
    "waiting",
)
"""`waiting` is the share of the seconds spent waiting for data; empty is what was not measured."""


@dataclass(frozen=True)
class Run:
    """A folder with everything that came of a training run."""

    path: Path

    @property
    def best(self) -> Path:
        """Weights of the epoch that validation chose; they describe themselves."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last epoch; they describe themselves."""
        return self.path / "last.safetensors"

    @property
    def chosen(self) -> Path:
        """The weights that the protocol chooses: `best`, or `last` where nothing validates.

        Raises:
            DataError: when this is no folder of a run, or it has none yet.
        """
        path = self.best if self.facts().get("protocol") == BEST_ON_VALIDATION else self.last
        if not path.is_file():
            raise DataError(f"{str(self.path)!r} has no {path.name}: no epoch was finished")
        return path

    @property
    def checkpoint(self) -> Path:
        """Where to go on: weights, optimizer, place in the data."""
        return self.path / "resume.ckpt"

    @property
    def curve(self) -> Path:
        """A line an epoch: losses, validation accuracy, learning rate, seconds."""
        return self.path / "curve.csv"

    @property
    def record(self) -> Path:
        """What it was: recipe, protocol, precision, split, seeds, versions, commit."""
        return self.path / "run.json"

    def facts(self) -> dict[str, Any]:
        """What the record says.

        Raises:
            DataError: when this is no folder of a run, or its record is damaged.
        """
        try:
            facts = json.loads(self.record.read_text())
            if not isinstance(facts, dict) or not isinstance(facts.get("recipe"), dict):
                raise ValueError("it holds no recipe")
            return facts
        except FileNotFoundError as error:
            raise DataError(
                f"{str(self.path)!r} is not the folder of a run: it has no run.json"
            ) from error
        except ValueError as error:
            raise DataError(f"{self.record} is damaged: {error}") from error

    def recipe(self) -> Recipe:
        """The recipe it followed.

        Raises:
            DataError: when this is no folder of a run, or its record is damaged.
            ConfigError: when another version of this library wrote it.
        """
        return Recipe.from_dict(self.facts()["recipe"])

    def is_finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.facts().get("status") == "finished" and (
            len(read_curve(self.curve)) >= self.recipe().trainer.epochs
        )

    def outcome(self) -> dict[str, Any]:
        """What the curve says of the run: epochs, hours, the chosen one, and the paper's protocol.

        `top1_paper_protocol` is the highest test accuracy of all epochs: the paper reports that,
        and it is no estimate of anything, since the test labels chose it.

        Raises:
            DataError: when the curve is damaged.
        """
        rows = read_curve(self.curve)
        try:
            return _outcome(rows)
        except KeyError as error:
            raise DataError(f"{self.curve} is no curve of a run: a line lacks {error}") from error

    def write(self, facts: dict[str, Any]) -> None:
        with replacing(self.record) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n")


def _outcome(rows: list[dict[str, float]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "epochs": len(rows),
        "hours": sum(row["seconds"] for row in rows) / 3600,
    }
    validated = [row for row in rows if "validation_top1" in row]
    if validated:
        best = max(validated, key=lambda row: (row["validation_top1"], -row["validation_loss"]))
        found["best_epoch"] = best["epoch"]
        found["validation_top1"] = best["validation_top1"]
    if tested := [row["test_top1"] for row in rows if "test_top1" in row]:
        found["top1_paper_protocol"] = max(tested)
    return found


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a curve, without what was not measured; none when there is no such file.

    Raises:
        DataError: when it is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            if "epoch" not in (table.fieldnames or ["epoch"]):
                raise ValueError("it has no column epoch")
            rows = [{k: float(v) for k, v in row.items() if v} for row in table]
        return [{**row, "epoch": int(row["epoch"])} for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is no curve: {error}") from error
