"""What a run writes of itself: its record, and the card of its weights."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spikformer.data import DataSet
from spikformer.models import Card, Spikformer
from spikformer.recipe import Recipe
from spikformer.training._ranks import is_first
from spikformer.training.environment import git_commit, hardware, versions
from spikformer.training.run import BEST_ON_VALIDATION, LAST_EPOCH, Run


def protocol_of(data: DataSet) -> str:
    """Which epoch's weights are the run's."""
    return BEST_ON_VALIDATION if len(data.validation) else LAST_EPOCH


def card_of(recipe: Recipe, data: DataSet, model: Spikformer, **facts: Any) -> Card:
    channels, height, width = data.input_size
    side = recipe.data.side
    return Card(
        model=recipe.model.name,
        arguments=model.arguments,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        input_size=(channels, side or height, side or width),
        interpolation="bicubic" if side else data.interpolation,
        split=data.split_name,
        facts={
            "recipe": recipe.name,
            "data": data.name,
            "choices": recipe.data.choices() | {"validation": len(data.validation)},
            "split_hash": data.split_hash,
            "seed": recipe.trainer.seed,
            "protocol": protocol_of(data),
            **facts,
        },
    )


def recorder(run: Run, recipe: Recipe, data: DataSet, resume: bool) -> Callable[[str], None]:
    """Writes the run's record, with the given status.

    A run in pieces lists all of them: each may have had its own machine and commit.
    """
    earlier = run.facts().get("pieces", []) if resume else []
    begun = run.outcome()["epochs"] if resume else 0
    made_with = {
        "hardware": hardware(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    always = {
        "recipe": recipe.to_dict(),
        "protocol": protocol_of(data),
        "precision": recipe.trainer.precision,
        "split": data.split_name,
        "split_hash": data.split_hash,
        "seed": recipe.trainer.seed,
        **made_with,
        "pieces": [*earlier, {"from_epoch": begun, **made_with}],
    }

    def record(status: str) -> None:
        if is_first():
            written = datetime.now(UTC).isoformat(timespec="seconds")
            run.write({"status": status, **run.outcome(), "written": written, **always})

    return record
