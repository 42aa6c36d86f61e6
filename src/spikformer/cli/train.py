"""`spikformer train RECIPE [--field value ...]` and `spikformer train --resume RUN [...]`."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from spikformer.cli._options import console, run
from spikformer.errors import ConfigError
from spikformer.recipe import FREE, Recipe
from spikformer.recipes import RECIPES, find_recipe

if TYPE_CHECKING:
    from spikformer.training.run import Run

USAGE = f"""usage: spikformer train RECIPE [--field value ...]
       spikformer train --resume RUN [--field value ...]

Recipes: {", ".join(RECIPES)}, or the path of a .py file that defines recipe().
spikformer train RECIPE --help lists every field with its value. A run that is resumed may change
{", ".join(FREE)}."""


def main(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(USAGE)
    elif arguments[0].startswith("--resume"):
        _resume(arguments)
    else:
        _start(*arguments)


def _start(name: str, *options: str) -> None:
    if any(word.startswith("--resume") for word in options):
        raise ConfigError("--resume takes no recipe, the run has its own: train --resume RUN")
    chosen = find_recipe(name)

    def command(
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = chosen,
        run: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        """Train the recipe.

        Args:
            recipe: What to train.
            run: Folder to write to; by default runs/RECIPE/TIME.
            overwrite: Remove an earlier run in that folder first.
        """
        _train(recipe, run, overwrite=overwrite)

    run(f"train {name}", command, options)


def _resume(arguments: Sequence[str]) -> None:
    option, *rest = arguments
    _, given, folder = option.partition("=")
    if not given:
        folder, *rest = rest or [""]
    if not folder or folder.startswith("-"):
        raise ConfigError("--resume wants the folder of a run: train --resume RUN")

    from spikformer.training.run import Run

    chosen = Run(Path(folder)).recipe()

    def command(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = chosen) -> None:
        """Go on where a run stopped, by its own recipe.

        Args:
            recipe: What the run trains. Where it runs and how it is watched may change.
        """
        _train(recipe, Path(folder), resume=True)

    run(f"train --resume {folder}", command, rest)


def _train(
    recipe: Recipe, folder: Path | None, *, resume: bool = False, overwrite: bool = False
) -> None:
    from spikformer.training._ranks import is_first
    from spikformer.training.fit import train

    try:
        finished = train(
            recipe, folder, resume=resume, overwrite=overwrite, console=Console(file=sys.stderr)
        )
    except ModuleNotFoundError as error:
        if find_spec("lightning") and find_spec("tensorboard"):
            raise
        missing = "tensorboard" if find_spec("lightning") else "lightning"
        raise ConfigError(f"training needs {missing}: pip install 'spikformer[train]'") from error
    if is_first():
        _print(finished)


def _print(finished: "Run") -> None:
    facts = finished.facts()
    said = f"{facts['epochs']} epochs after {facts['hours'] * 60:.1f} min"
    if "validation_top1" in facts:
        said += (
            f"; best on validation: {facts['validation_top1']:.2%} in epoch {facts['best_epoch']}"
        )
    if "top1_paper_protocol" in facts:
        said += f"; best on test, as the paper reports: {facts['top1_paper_protocol']:.2%}"
    console.print(said)
    console.print(f"run: {finished.path}")
    console.print(f"next: spikformer evaluate {finished.path}")
