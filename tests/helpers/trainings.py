"""Small trainings in which everything that is drawn or remembered matters, and their ends."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from spikformer.recipe import Recipe
from spikformer.recipes import find_recipe
from spikformer.training.run import Run, read_curve

EVERYTHING: dict[str, Any] = {
    "model.drop_path_rate": 0.2,
    "augment.mixup": 0.5,
    "augment.cutmix": 0.5,
    "augment.erasing": 0.3,
    "optim.ema": 0.9,
    "trainer.epochs": 2,
    "trainer.accelerator": "cpu",
}
"""All that is drawn or remembered, of the digits recipe cut to two epochs."""
SMALL: dict[str, Any] = {
    "model.steps": 2,
    "model.dim": 32,
    "data.batch_size": 64,
    "data.validation": 500,
    "trainer.checkpoint_every": 4,
    "trainer.log_every": 7,
}
STEPS, CHECKPOINTS = 11, 3
"""Of one epoch, when it is small: 757 images to train on, 500 to validate on."""
CLOCKS = {"seconds", "waited", "waiting", "hours", "written", "git_commit", "pieces"}
"""What two equal runs need not have in common."""


def digits(*settings: dict[str, Any], **trainer: Any) -> Recipe:
    """The digits recipe with fields changed by their paths, and some of the trainer's by name."""
    return changed("digits", *settings, **trainer)


def changed(name: str, *settings: dict[str, Any], **trainer: Any) -> Recipe:
    """Any recipe, likewise."""
    recipe = find_recipe(name)
    changes = {f"trainer.{name}": value for name, value in trainer.items()}
    for path, value in {k: v for each in (*settings, changes) for k, v in each.items()}.items():
        part, field = path.split(".")
        fields = dataclasses.replace(getattr(recipe, part), **{field: value})
        recipe = dataclasses.replace(recipe, **{part: fields})
    return recipe


def options(*settings: dict[str, Any]) -> list[str]:
    """The same changes, for the command line."""
    pairs = [(k, v) for each in settings for k, v in each.items()]
    return [word for k, v in pairs for word in (f"--{k.replace('_', '-')}", str(v))]


def checkpoint(run: Run) -> dict[str, Any]:
    return torch.load(run.checkpoint, weights_only=True)


def end(run: Run) -> dict[str, Any]:
    """Everything that a run leaves behind."""
    names = {path.name for path in run.path.iterdir() if not path.name.startswith("events.")}
    return {
        "files": sorted(name for name in names if "partial" not in name),
        "checkpoint": checkpoint(run),
        "best": load_file(run.best),
        "last": load_file(run.last),
        "curve": read_curve(run.curve),
        "record": run.facts(),
    }


def partial_files(run: Run) -> list[Path]:
    return [path for path in run.path.iterdir() if "partial" in path.name]


def assert_same_end(found: Run, expected: Run, **data: Any) -> None:
    """To the bit, but for clocks, and for fields of the recipe's data that are set otherwise."""
    known = end(expected)
    known["record"]["recipe"]["data"].update(data)
    different = sorted(differences(end(found), known))
    assert not different, f"{len(different)} differences: {different[:20]}"


def differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Paths of the leaves in which two structures differ."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a.keys() - CLOCKS:
            yield from differences(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, pair in enumerate(zip(a, b, strict=True)):
            yield from differences(*pair, f"{path}/{index}")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(_bits(a), _bits(b)):
            yield path
    elif repr(a) != repr(b):
        yield f"{path}: {str(a)[:60]} and {str(b)[:60]}"


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().reshape(-1).view(torch.uint8)
