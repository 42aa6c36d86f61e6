"""Training: from a recipe to a folder with everything that came of it."""

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from spikformer.data import DataSet, load_data
from spikformer.data.loader import EvaluationLoader, Pixels, TrainingLoader
from spikformer.errors import ConfigError, DataError
from spikformer.models import Card, Spikformer, create_model, save_weights
from spikformer.training._manners import own_interrupts, quiet_lightning
from spikformer.training.environment import git_commit, hardware, versions
from spikformer.training.recipe import Recipe
from spikformer.training.run import Run

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

    from spikformer.training.callbacks import KeepWeights

PRECISIONS = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}
PROTOCOL = "best on validation"


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
        overwrite: Remove an earlier run in that folder first.
        console: Where progress is shown. None shows none.

    Raises:
        ConfigError: when the folder is in use, the recipe is not the run's, or a name is unknown.
        DataError: when data are missing, or there is nothing to resume.
        KeyboardInterrupt: when interrupted; its text says how to go on.
    """
    folder = Run(Path(run) if run is not None else _new_folder(recipe))
    if resume:
        _check_resumable(folder, recipe)
    else:
        _check_free(folder, overwrite)
    data = load_data(recipe.data.name, recipe.data.root, recipe.data.split_seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.trainer.seed)
        model = _build(recipe, data)
        _fit(model, recipe, data, folder, resume, console)
    return folder


def _new_folder(recipe: Recipe) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / recipe.name / stamp
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{stamp}-{number}")
    return folder


def _check_resumable(run: Run, recipe: Recipe) -> None:
    if run.recipe() != recipe:
        raise ConfigError(f"the recipe is not that of {run.path}, and cannot resume it")
    if not run.checkpoint.is_file():
        raise DataError(f"nothing to resume in {str(run.path)!r}: no epoch was finished")
    try:
        torch.load(run.checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{run.checkpoint} is damaged: it cannot be resumed") from error


def _check_free(run: Run, overwrite: bool) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError(f"{str(run.path)!r} is a file: a run needs a folder")
    if not run.path.exists() or not any(run.path.iterdir()):
        return
    if not overwrite:
        raise ConfigError(
            f"{str(run.path)!r} is not empty: choose another folder, --resume it, or --overwrite it"
        )
    if not run.record.is_file():
        raise ConfigError(f"{str(run.path)!r} is not the folder of a run; it is not overwritten")


def _build(recipe: Recipe, data: DataSet) -> Spikformer:
    channels, *_ = data.input_size
    arguments = {"num_classes": len(data.classes), "in_chans": channels, **recipe.model.arguments()}
    model = create_model(recipe.model.name, **arguments)
    assert isinstance(model, Spikformer)
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
    from spikformer.training.callbacks import DataPlace, KeepWeights
    from spikformer.training.module import Classifier

    def save(which: str, epoch: int, top1: float) -> None:
        card = _card(recipe, data, model, epoch=epoch, validation_top1=top1)
        save_weights(model, run.path / f"{which}.safetensors", card=card)

    keep = KeepWeights(save)
    record = _recorder(run, recipe, data, keep, resume)
    with quiet_lightning(), own_interrupts():
        training, validation = _loaders(recipe, data)
        trainer = _trainer(recipe, run, [keep, DataPlace(training)], console)
        module = Classifier(model, recipe)
        if recipe.trainer.compile:
            model.compile()
        if not resume:  # nothing is removed before everything that is named was found
            shutil.rmtree(run.path, ignore_errors=True)
            run.path.mkdir(parents=True)
        record("running")
        try:
            trainer.fit(
                module,
                training,
                validation,
                ckpt_path=run.checkpoint if resume else None,
                weights_only=True,
            )
        except SystemExit as stop:  # Lightning's answer to an interrupt
            record("interrupted")
            if not run.checkpoint.is_file():
                raise KeyboardInterrupt("interrupted before the first epoch ended") from stop
            raise KeyboardInterrupt(
                f"interrupted; go on with: spikformer train --resume {run.path}"
            ) from stop
        except BaseException:
            record("failed")
            raise
    record("finished")


def _trainer(
    recipe: Recipe, run: Run, callbacks: "list[Callback]", console: Console | None
) -> "Trainer":
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from spikformer.training.callbacks import CheckpointFiles, Curve, Logs, OverallProgress

    checkpoint = ModelCheckpoint(
        run.path, "resume", save_on_train_epoch_end=True, enable_version_counter=False
    )
    shown = [] if console is None else [OverallProgress(console)]
    wanted = PRECISIONS[recipe.trainer.precision]
    try:
        trainer = Trainer(
            max_epochs=recipe.trainer.epochs,
            accelerator=recipe.trainer.accelerator,
            devices=1,
            precision=wanted,  # pyright: ignore[reportArgumentType]
            logger=Logs(run.path),
            log_every_n_steps=10,
            callbacks=[*callbacks, Curve(run.curve), *shown, checkpoint],
            plugins=[CheckpointFiles()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run.path,
        )
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from error
    if trainer.precision != wanted:
        raise ConfigError(
            f"trainer.precision {recipe.trainer.precision} does not exist on this accelerator, "
            f"which would take {trainer.precision}"
        )
    return trainer


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


def _card(recipe: Recipe, data: DataSet, model: Spikformer, **facts: Any) -> Card:
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


def _recorder(
    run: Run, recipe: Recipe, data: DataSet, keep: "KeepWeights", resume: bool
) -> Callable[[str], None]:
    """Writes the run's record, with the given status."""
    started = time.monotonic()
    earlier = run.facts() if resume else {}
    same_always = {
        "recipe": recipe.to_dict(),
        "protocol": PROTOCOL,
        "precision": recipe.trainer.precision,
        "split": data.split_name,
        "split_hash": data.split_hash,
        "hardware": hardware(),
        "versions": versions(),
        "git_commit": git_commit(),
    }

    def record(status: str) -> None:
        best = {k: earlier[k] for k in ("best_epoch", "validation_top1") if k in earlier}
        if keep.best_epoch >= 0:
            best = {"best_epoch": keep.best_epoch, "validation_top1": keep.best[0]}
        run.write(
            {
                "status": status,
                **best,
                "hours": earlier.get("hours", 0.0) + (time.monotonic() - started) / 3600,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
                **same_always,
            }
        )

    return record
