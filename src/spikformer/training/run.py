"""Training: from a recipe to a folder with everything that came of it."""

import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from spikformer._files import replacing
from spikformer.data import DataSet, load_data
from spikformer.data.loader import EvaluationLoader, Pixels, TrainingLoader
from spikformer.errors import ConfigError, DataError
from spikformer.models import Card, Spikformer, create_model, save_weights
from spikformer.training.environment import git_commit, hardware, versions
from spikformer.training.recipe import Recipe

PRECISIONS = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}
PROTOCOL = "best on validation"
ADVICE = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists.*",
    ".*smaller than the logging interval.*",
    ".*LeafSpec.* is deprecated.*",  # Lightning's own use of PyTorch
)
"""Warnings that tell a user of this library nothing they could act on."""


@dataclass(frozen=True)
class Run:
    """A folder that training wrote.

    `best.safetensors` and `last.safetensors` are weights that describe themselves, `resume.ckpt`
    is where to go on, `curve.csv` has a line an epoch, `run.json` says what it was, and TensorBoard
    reads the folder.
    """

    path: Path

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "resume.ckpt"

    @property
    def curve(self) -> Path:
        return self.path / "curve.csv"

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    def facts(self) -> dict[str, Any]:
        """What `run.json` says.

        Raises:
            DataError: when this is no folder of a run.
        """
        try:
            return json.loads(self.record.read_text())
        except FileNotFoundError as error:
            raise DataError(
                f"{str(self.path)!r} is not the folder of a run: it has no run.json"
            ) from error
        except ValueError as error:
            raise DataError(f"{self.record} is damaged: {error}") from error

    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.facts()["recipe"])


def train(
    recipe: Recipe,
    run: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> Run:
    """Train what a recipe says.

    Args:
        recipe: Everything that decides what happens. When resuming, it must be the run's own.
        run: Folder to write to; by default `runs/<recipe>/<time>`.
        resume: Go on where the run in that folder stopped.
        overwrite: Remove what is in the folder first.
        console: Where progress is shown. None shows none.

    Raises:
        ConfigError: when the folder is in use, the recipe is not the run's, or a name is unknown.
        DataError: when data are missing, or there is nothing to resume.
    """
    folder = Run(Path(run) if run is not None else _new_folder(recipe))
    _prepare(folder, recipe, resume, overwrite)
    data = load_data(recipe.data.name, recipe.data.root, recipe.data.split_seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.trainer.seed)
        model = _build(recipe, data)
        _fit(model, recipe, data, folder, resume, console)
    return folder


def card_for(recipe: Recipe, data: DataSet, model: Spikformer, **facts: Any) -> Card:
    """What weights trained by a recipe say of themselves."""
    return Card(
        model=recipe.model.name,
        arguments=model.arguments,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        input_size=data.input_size,
        interpolation=data.interpolation,
        split=data.split_name,
        facts={
            "recipe": recipe.name,
            "data": data.name,
            "split_seed": recipe.data.split_seed,
            "split_hash": data.split_hash,
            "seed": recipe.trainer.seed,
            **facts,
        },
    )


def _new_folder(recipe: Recipe) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / recipe.name / stamp
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{stamp}-{number}")
    return folder


def _prepare(run: Run, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    if resume:
        if not run.checkpoint.is_file():
            raise DataError(f"nothing to resume in {str(run.path)!r}: it has no resume.ckpt")
        if run.recipe() != recipe:
            raise ConfigError(
                f"the recipe differs from that of {run.path}, which cannot be resumed by it"
            )
        return
    if run.path.exists() and any(run.path.iterdir()):
        if not overwrite:
            raise ConfigError(
                f"{str(run.path)!r} is not empty: choose another folder, --resume it, or --overwrite it"
            )
        if not run.record.is_file():
            raise ConfigError(
                f"{str(run.path)!r} is not the folder of a run; it is not overwritten"
            )
        shutil.rmtree(run.path)
    run.path.mkdir(parents=True, exist_ok=True)


def _build(recipe: Recipe, data: DataSet) -> Spikformer:
    channels, *_ = data.input_size
    arguments = {"num_classes": len(data.classes), "in_chans": channels, **recipe.model.arguments()}
    model = create_model(recipe.model.name, **arguments)
    if not isinstance(model, Spikformer):
        raise ConfigError(f"{recipe.model.name} cannot be trained by a recipe")
    return model.to(memory_format=torch.channels_last)


def _fit(
    model: Spikformer,
    recipe: Recipe,
    data: DataSet,
    run: Run,
    resume: bool,
    console: Console | None,
) -> None:
    # Lightning takes seconds to import: here, so that nothing else waits for it.
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger

    from spikformer.training.callbacks import CheckpointFiles, Curve, KeepWeights, OverallProgress
    from spikformer.training.module import Classifier

    def save(which: str, epoch: int, top1: float) -> None:
        card = card_for(recipe, data, model, epoch=epoch, validation_top1=top1)
        save_weights(model, run.path / f"{which}.safetensors", card=card)

    keep = KeepWeights(save)
    checkpoint = ModelCheckpoint(
        run.path, "resume", save_on_train_epoch_end=True, enable_version_counter=False
    )
    callbacks = [keep, Curve(run.curve), checkpoint]
    if console is not None:
        callbacks.append(OverallProgress(console))
    started = time.monotonic()
    earlier = run.facts()["hours"] if resume else 0.0

    def record(status: str) -> None:
        facts = {
            "status": status,
            "recipe": recipe.to_dict(),
            "protocol": PROTOCOL,
            "precision": recipe.trainer.precision,
            "split": data.split_name,
            "split_hash": data.split_hash,
            "best_epoch": keep.best_epoch,
            "validation_top1": keep.best[0],
            "hours": earlier + (time.monotonic() - started) / 3600,
            "hardware": hardware(),
            "versions": versions(),
            "git_commit": git_commit(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with replacing(run.record) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n")

    with _quiet_lightning():
        trainer = Trainer(
            max_epochs=recipe.trainer.epochs,
            accelerator=recipe.trainer.accelerator,
            devices=recipe.trainer.devices,
            precision=PRECISIONS[recipe.trainer.precision],  # pyright: ignore[reportArgumentType]
            logger=TensorBoardLogger(run.path, name="", version=""),
            callbacks=callbacks,
            plugins=[CheckpointFiles()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run.path,
        )
        module = Classifier(model, recipe)
        if recipe.trainer.compile:
            model.compile()
        record("running")
        trainer.fit(
            module,
            *_loaders(recipe, data),
            ckpt_path=run.checkpoint if resume else None,
            weights_only=True,
        )
    record("finished" if trainer.state.finished and not trainer.interrupted else "interrupted")
    if trainer.interrupted:
        raise KeyboardInterrupt


def _loaders(recipe: Recipe, data: DataSet) -> tuple[TrainingLoader, EvaluationLoader]:
    augment = recipe.augment
    prepare = Pixels(data.mean, data.std, augment.degrees, augment.scale, augment.translate)
    training = TrainingLoader(
        data.train,
        prepare,
        batch_size=recipe.data.batch_size,
        seed=recipe.trainer.seed,
        workers=recipe.data.workers,
    )
    return training, EvaluationLoader(data.validation, prepare, workers=recipe.data.workers)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner, tips and `ADVICE`."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in ADVICE:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
