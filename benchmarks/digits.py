"""How good is the `digits` recipe, over seeds?

Trains every seed, evaluates the checkpoint that validation chose on the test split, and writes a
table with the mean and the spread.

    python benchmarks/digits.py [--seeds 5] [--out benchmarks/results/digits.md]
"""

import dataclasses
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import tyro
from rich.console import Console

from spikformer.recipes import find_recipe
from spikformer.training.environment import git_commit, hardware, versions
from spikformer.training.evaluation import evaluate
from spikformer.training.fit import train

MEAN, LOWEST = 98.0, 97.0
"""What the recipe must reach, in percent of the test images."""


def main(seeds: int = 5, out: Path | None = None) -> None:
    """Train and evaluate the digits recipe.

    Args:
        seeds: How many, from 0 on.
        out: Where to write the table; it is printed too.
    """
    console = Console(width=160)
    recipe = find_recipe("digits")
    rows, accuracies, minutes = [], [], []
    for seed in range(seeds):
        seeded = dataclasses.replace(recipe.trainer, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            run = train(
                dataclasses.replace(recipe, trainer=seeded), Path(folder) / "run", console=console
            )
            facts, found = run.facts(), evaluate(run.path)
        accuracies.append(100 * found.top1)
        minutes.append(60 * facts["hours"])
        rows.append(
            f"| {seed} | {accuracies[-1]:.2f} | {100 * facts['validation_top1']:.2f} "
            f"| {facts['best_epoch'] + 1} | {found.firing_rate:.4f} | {minutes[-1]:.1f} |"
        )
        console.print(rows[-1])
    named = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
    text = "\n".join(
        [
            "# digits",
            "",
            f"`python benchmarks/digits.py --seeds {seeds}` at {git_commit()}, "
            f"{datetime.now(UTC):%Y-%m-%d}, {hardware()}; {named}.",
            "",
            f"Protocol: checkpoint chosen on validation (180), tested once (540), float32. "
            f"Split {found.split_hash[:12]}.",
            "",
            "| seed | test % | validation % | best epoch | spikes per neuron per step | minutes |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            f"Test accuracy: mean {statistics.mean(accuracies):.2f} %, "
            f"deviation {statistics.pstdev(accuracies):.2f}, lowest {min(accuracies):.2f}; "
            f"median time {statistics.median(minutes):.1f} min a seed.",
            "",
        ]
    )
    console.print(text)
    if statistics.mean(accuracies) < MEAN or min(accuracies) < LOWEST:
        raise SystemExit(f"below the bar: mean {MEAN} %, each {LOWEST} %")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    tyro.cli(main)
