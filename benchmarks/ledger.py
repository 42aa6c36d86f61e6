"""The ledger: one row for every run that is worth citing, and the README's table made from it.

    python benchmarks/ledger.py add RUN NAME       # an evaluated run becomes results/runs/NAME
    python benchmarks/ledger.py seeds RECIPE N     # trains, evaluates and adds seeds 0 to N - 1
    python benchmarks/ledger.py keep RUN NAME      # its weights in bfloat16 become weights/NAME
    python benchmarks/ledger.py write              # ledger.csv and the README's table, from those

A run's folder here holds its record, its curve and its evaluation on test, nothing else. Seeds of one
recipe that differ in nothing else are one line of the README: mean and deviation.
"""

import csv
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from spikformer._files import replacing
from spikformer.errors import DataError, SpikformerError
from spikformer.models import load_model, read_card, save_weights
from spikformer.recipe import Model, Recipe
from spikformer.recipes import RECIPES, find_recipe
from spikformer.training.evaluation import evaluate
from spikformer.training.fit import train
from spikformer.training.run import Run

HERE = Path(__file__).parent / "results"
WEIGHTS = Path(__file__).parent / "weights"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: python benchmarks/ledger.py write -->", "<!-- end of results -->"
EVALUATION = "evaluation-test.json"
PAPER = {
    "cifar10": 0.9519,
    "cifar10_400": 0.9551,
    "cifar100": 0.7786,
    "cifar100_400": 0.7821,
    "cifar10_paper224": 0.9703,
    "cifar10dvs_T10": 0.789,
    "cifar10dvs_T16": 0.809,
    "dvs128gesture_T10": 0.969,
    "dvs128gesture_T16": 0.983,
    "imagenet_8_384": 0.7024,
    "imagenet_6_512": 0.7246,
    "imagenet_8_512": 0.7338,
    "imagenet_8_512_paper": 0.7338,
    "imagenet_10_512": 0.7368,
    "imagenet_8_768": 0.7481,
}
"""Test accuracy in the paper: the best epoch on test (tables 2, 3, 4 and 7)."""
WITHOUT_EFFECT = ("seed", "root", "workers", "log_every", "checkpoint_every", "accelerator")
"""Fields that make no other recipe; the seed has a column of its own."""
COLUMNS = (
    "name",
    "recipe",
    "options",
    "command",
    "model",
    "seed",
    "protocol",
    "precision",
    "epochs",
    "validation_top1",
    "test_top1",
    "top1_paper_protocol",
    "firing_rate",
    "hours",
    "hardware",
    "versions",
    "git_commit",
    "split_hash",
    "curve",
)


@dataclass(frozen=True)
class Entry:
    """A run in the ledger.

    Args:
        path: Its folder under `results/runs`.
        facts: Its record.
        evaluation: Of the weights that its protocol chose, on test, in float32.
    """

    path: Path
    facts: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def recipe(self) -> str:
        return self.facts["recipe"]["name"]

    @property
    def options(self) -> str:
        """Options that make this run of the recipe."""
        own, used = find_recipe(self.recipe).to_dict(), self.facts["recipe"]
        return " ".join(
            _option(f"{part}.{name}", value)
            for part, values in used.items()
            if isinstance(values, dict)
            for name, value in values.items()
            if own[part].get(name) != value and name not in WITHOUT_EFFECT
        )

    @property
    def command(self) -> str:
        seed = self.facts["recipe"]["trainer"]["seed"]
        words = ("spikformer train", self.recipe, self.options, f"--trainer.seed {seed}")
        return " ".join(filter(None, words))

    @property
    def epochs(self) -> str:
        done, wanted = self.facts["epochs"], self.facts["recipe"]["trainer"]["epochs"]
        return str(done) if done == wanted else f"{done} of {wanted}"

    def row(self) -> dict[str, Any]:
        facts, used = self.facts, self.facts["recipe"]
        versions = (f"{k} {v}" for k, v in facts["versions"].items() if v)
        return {column: facts.get(column, "") for column in COLUMNS} | {
            "name": self.path.name,
            "recipe": self.recipe,
            "options": self.options,
            "command": self.command,
            "model": used["model"]["name"],
            "seed": used["trainer"]["seed"],
            "epochs": self.epochs,
            "test_top1": self.evaluation["top1"],
            "firing_rate": round(self.evaluation["firing_rate"], 5),
            "hours": round(facts["hours"], 3),
            "versions": ", ".join(versions),
            "curve": f"runs/{self.path.name}/curve.csv",
        }


def entries() -> list[Entry]:
    """All runs of the ledger, by name."""
    return [
        Entry(record.parent, json.loads(record.read_text()), _read(record.parent / EVALUATION))
        for record in sorted((HERE / "runs").glob("*/run.json"))
    ]


def add(run: Path, name: str) -> None:
    """Copy what a run is cited for.

    Args:
        run: Its folder, evaluated on test.
        name: What the ledger calls it.

    Raises:
        DataError: when it is no run, was made by code that no commit holds, or was not evaluated on
            test in float32.
    """
    source, target = Run(run), HERE / "runs" / name
    facts = source.facts() | source.outcome()
    find_recipe(facts["recipe"]["name"])
    if str(facts.get("git_commit")).endswith("-dirty"):
        raise DataError(f"{str(run)!r} was made by code that no commit holds")
    if not (run / EVALUATION).is_file():
        raise DataError(f"{str(run)!r} was not evaluated: spikformer evaluate {run}")
    evaluation = _read(run / EVALUATION)
    if evaluation.get("precision") != "32":
        raise DataError(f"{str(run)!r} was not evaluated in float32: spikformer evaluate {run}")
    if evaluation["facts"]["epoch"] != read_card(source.chosen).facts["epoch"]:
        raise DataError(f"{str(run)!r} was trained on since: spikformer evaluate {run}")
    facts["recipe"]["data"]["root"] = None
    evaluation["weights"] = Path(evaluation["weights"]).name
    target.mkdir(parents=True, exist_ok=True)
    Run(target).write(facts)
    with replacing(Run(target).curve) as partial:
        partial.write_bytes(source.curve.read_bytes())
    with replacing(target / EVALUATION) as partial:
        partial.write_text(json.dumps(evaluation, indent=2) + "\n")
    write()


def keep(run: Path, name: str) -> None:
    """Keep a run's weights in the repository, rounded to bfloat16, for benchmarks to measure with.

    They are evaluated anew, since rounding moves spikes.

    Args:
        run: Its folder.
        name: Of the file, without its ending.
    """
    source = Run(run).chosen
    target = WEIGHTS / f"{name}.safetensors"
    console, model, card = Console(), load_model(source), read_card(source)
    save_weights(model, target, card=card, dtype=torch.bfloat16)
    top1 = evaluate(target, console=console).top1
    facts = card.facts | {"maps": "rounded to bfloat16 after training", "test_top1": top1}
    save_weights(model, target, card=replace(card, facts=facts), dtype=torch.bfloat16)
    console.print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {top1:.2%} on test")


def seeds(recipe: str, count: int) -> None:
    """Train a recipe with several seeds, evaluate each, and add it.

    Args:
        recipe: Its name.
        count: How many seeds, from 0 on.
    """
    console = Console()
    for seed in range(count):
        chosen = find_recipe(recipe)
        chosen = replace(chosen, trainer=replace(chosen.trainer, seed=seed))
        with tempfile.TemporaryDirectory() as folder:
            run = train(chosen, Path(folder) / "run", console=console)
            found = evaluate(run.path, console=console)
            with replacing(run.path / EVALUATION) as partial:
                partial.write_text(json.dumps(found.to_dict()))
            add(run.path, f"{recipe}-seed{seed}")
        console.print(f"seed {seed}: {found.top1:.2%}")


def write() -> None:
    """Write `ledger.csv` and the README's table."""
    with replacing(HERE / "ledger.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(entry.row() for entry in entries())
    with replacing(README) as partial:
        partial.write_text(with_table(README.read_text()))


def with_table(readme: str) -> str:
    """The README with today's table in place of the one it has."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def table() -> str:
    """A line for every recipe and change of it; recipes without a run have empty cells."""
    lines = [
        "| recipe | model | test top-1, % | its protocol | best epoch on test, % ¹ | paper ¹, % "
        "| epochs | hours | hardware |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in RECIPES:
        groups: dict[str, list[Entry]] = {}
        for entry in entries():
            if entry.recipe == name:
                groups.setdefault(entry.options, []).append(entry)
        lines += [_line(name, group) for group in groups.values()] or [_line(name, [])]
    return "\n".join(lines)


def _line(name: str, group: list[Entry]) -> str:
    paper = _percent(iter([PAPER.get(name)]))
    if not group:
        return f"| `{name}` | {_model(find_recipe(name).model)} | | | | {paper} | | | |"
    first = group[0]
    files = f"[{first.path.name}](benchmarks/results/runs/{first.path.name})"
    return " | ".join(
        [
            f"| `{name}`{' ²' if first.options else ''} ({files})",
            _model(Recipe.from_dict(first.facts["recipe"]).model),
            _percent(entry.evaluation["top1"] for entry in group),
            first.facts["protocol"],
            _percent(entry.facts.get("top1_paper_protocol") for entry in group),
            paper,
            first.epochs,
            f"{statistics.mean(entry.facts['hours'] for entry in group):.2f}",
            f"{first.facts['hardware']} |",
        ]
    )


def _option(field: str, value: Any) -> str:
    name = field.replace("_", "-")
    if isinstance(value, bool):
        part, _, last = name.partition(".")
        return f"--{part}.{'' if value else 'no-'}{last}"
    return f"--{name} {value}"


def _model(model: Model) -> str:
    changes = ", ".join(f"{name} {value}" for name, value in model.arguments().items())
    return f"`{model.name}`" + (f" with {changes}" if changes else "")


def _percent(shares: Iterator[float | None]) -> str:
    found = [100 * share for share in shares if share is not None]
    if len(found) < 2:
        return f"{found[0]:.2f}" if found else ""
    return f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f} ({len(found)} seeds)"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"add": add, "keep": keep, "seeds": seeds, "write": write},
            config=(tyro.conf.Positional,),
        )
    except SpikformerError as error:
        raise SystemExit(f"ledger: {error}") from error
