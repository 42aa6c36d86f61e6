"""The folder that training writes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikformer._files import replacing
from spikformer.errors import DataError
from spikformer.training.recipe import Recipe


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

    def write(self, facts: dict[str, Any]) -> None:
        with replacing(self.record) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n")
