"""Training: from a recipe to a folder with everything that came of it."""

import copy
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from spikformer.data import DataSet, load_data
from spikformer.data.loader import EvaluationLoader, Ranks, TrainingLoader
from spikformer.data.pixels import Augmentation, Pixels
from spikformer.errors import ConfigError, DataError
from spikformer.models import Spikformer, create_model, load_weights, save_weights
from spikformer.recipe import Augment, Recipe
from spikformer.training._folder import check_free, clear, held, new_folder
from spikformer.training._manners import own_determinism, own_interrupts, quiet_lightning
from spikformer.training._ranks import agreed_folder, is_first
from spikformer.training.record import card_of, recorder
from spikformer.training.run import Run

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

PRECISIONS = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


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
        recipe: Everything that decides what happens. When resuming it is the run's own, but for
            where it runs and how it is watched (`recipe.FREE`).
        run: Folder to write to; by default `runs/<recipe>/<time>`.
        resume: Go on where the run in that folder stopped.
        overwrite: Remove an earlier run in that folder first.
        console: Where progress is shown. None shows none.

    Raises:
        ConfigError: when the folder is in use, a run's recipe changes, or a name is unknown.
        DataError: when data are missing or split otherwise than when the run began, or there is
            nothing to resume.
        NotFiniteError: when the loss is infinite or no number.
        KeyboardInterrupt: when interrupted; its text says how to go on.
    """
    folder = Run(Path(run) if run is not None else agreed_folder(lambda: new_folder(recipe.name)))
    with held(folder.path) if is_first() else nullcontext():
        if resume:
            _check_resumable(folder, recipe)
            if folder.is_finished():
                return folder
        elif is_first():
            check_free(folder, overwrite)
        settings = recipe.data
        data = load_data(settings.name, settings.root, **settings.choices())
        if resume and data.split_hash != folder.facts().get("split_hash"):
            raise DataError(
                f"{settings.name} is split otherwise than when {str(folder.path)!r} began: "
                f"its test images may be among those to train on"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.trainer.seed)
            model = _build(recipe, data, resume)
            _fit(model, recipe, data, folder, resume, console)
    return folder


def _check_resumable(run: Run, recipe: Recipe) -> None:
    recipe.check_resumes(run.recipe())
    if not run.checkpoint.is_file():
        raise DataError(
            f"nothing to resume in {str(run.path)!r}: it stopped before its first checkpoint"
        )
    try:
        saved = torch.load(run.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if lacks := {"pytorch-lightning_version", "state_dict", "callbacks"} - saved.keys():
            raise KeyError(*lacks)
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{run.checkpoint} is damaged: it cannot be resumed") from error


def _build(recipe: Recipe, data: DataSet, resume: bool) -> Spikformer:
    channels, *_ = data.input_size
    arguments = {"num_classes": len(data.classes), "in_chans": channels, **recipe.model.arguments()}
    if data.has_frames:
        frames = data.train.images.shape[1]
        if arguments.setdefault("steps", frames) != frames:
            raise ConfigError(
                f"model.steps is {recipe.model.steps}, and recordings are cut into {frames} frames: "
                f"leave it, and choose data.frames"
            )
    model = create_model(recipe.model.name, **arguments)
    assert isinstance(model, Spikformer)
    if recipe.model.weights is not None and not resume:
        load_weights(model, recipe.model.weights, head=False)
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
    from spikformer.training.callbacks import Curve, Together
    from spikformer.training.checkpoints import DataPlace, KeepWeights
    from spikformer.training.module import Classifier

    portrait = copy.deepcopy(model)

    def save(which: str, weights: Any, epoch: int, metrics: Mapping[str, float]) -> None:
        portrait.load_state_dict(weights)
        card = card_of(recipe, data, portrait, epoch=epoch, **metrics)
        save_weights(portrait, run.path / f"{which}.safetensors", card=card)

    training, evaluation = _loaders(model, recipe, data)
    callbacks = [
        Together(training, list(evaluation.values()), share=recipe.trainer.share_statistics),
        KeepWeights(save),
        DataPlace(training),
        Curve(run.curve, training),
    ]
    record = recorder(run, recipe, data, resume)
    with quiet_lightning(), own_interrupts(), own_determinism():
        trainer = _trainer(recipe, run, callbacks, console)
        if console is not None and is_first():
            console.print(data.describe(), soft_wrap=True, highlight=False)
        module = Classifier(model, recipe, tuple(evaluation))
        if recipe.trainer.precision == "64":
            module.double()  # Lightning does, but after it has loaded a checkpoint
        if is_first():  # nothing is removed before all that is named was found
            clear(run, resume)
        record("running")
        try:
            trainer.fit(
                module,
                training,
                list(evaluation.values()) or None,
                ckpt_path=run.checkpoint if resume else None,
                weights_only=True,
            )
        except BaseException as stop:
            # Lightning answers a signal with an exit; workers that got it too, with an error.
            signalled = isinstance(stop, SystemExit) or trainer.received_sigterm
            record("interrupted" if signalled else "failed")
            if signalled:
                raise KeyboardInterrupt(_how_to_go_on(run)) from stop
            raise
    record("finished")


def _how_to_go_on(run: Run) -> str:
    if not run.checkpoint.is_file():
        return "interrupted before the first checkpoint"
    return f"interrupted; go on with: spikformer train --resume {run.path}"


def _trainer(
    recipe: Recipe, run: Run, callbacks: "list[Callback]", console: Console | None
) -> "Trainer":
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer

    from spikformer.training.callbacks import Logs, OverallProgress, StepLog
    from spikformer.training.checkpoints import CheckpointFiles, Checkpoints

    settings = recipe.trainer
    shown = [] if console is None or not is_first() else [OverallProgress(console)]
    checkpoints = Checkpoints(run.checkpoint, settings.checkpoint_every)
    wanted = PRECISIONS[settings.precision]
    try:
        trainer = Trainer(
            max_epochs=settings.epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=_strategy(recipe),
            precision=wanted,  # pyright: ignore[reportArgumentType]
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=recipe.optim.clip_norm,
            deterministic=settings.deterministic,
            logger=Logs(run.path),
            log_every_n_steps=settings.log_every,
            callbacks=[*callbacks, StepLog(settings.log_every), *shown, checkpoints],
            plugins=[CheckpointFiles()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run.path,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from error
    if trainer.precision != wanted:
        raise ConfigError(
            f"trainer.precision {settings.precision} does not exist on this accelerator, "
            f"which would take {trainer.precision}"
        )
    return trainer


def _strategy(recipe: Recipe) -> Any:
    from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

    from spikformer.nn import EncoderBlock

    settings = recipe.trainer
    if settings.strategy == "fsdp":
        for name in ("ema", "clip_norm"):
            if getattr(recipe.optim, name) is not None:
                raise ConfigError(f"trainer.strategy fsdp does not go with optim.{name}")
        return FSDPStrategy(auto_wrap_policy={EncoderBlock}, state_dict_type="full")
    if settings.devices * settings.nodes == 1 and settings.strategy == "auto":
        return "auto"
    # Running statistics go from rank 0 to the others once an epoch, not at every step.
    return DDPStrategy(broadcast_buffers=False)


def _loaders(
    model: Spikformer, recipe: Recipe, data: DataSet
) -> tuple[TrainingLoader, dict[str, EvaluationLoader]]:
    """What is trained on, and what is evaluated after every epoch."""
    settings, trainer = recipe.data, recipe.trainer
    _check_sides(model, data, settings.side)
    _check_augment(recipe.augment, data)
    pixels = Pixels(data.mean, data.std, settings.side)
    augment = Augmentation(pixels, recipe.augment, len(data.classes), trainer.seed)
    training = TrainingLoader(
        data.train,
        augment,
        batch_size=settings.batch_size,
        seed=trainer.seed,
        workers=settings.workers,
        accumulate=trainer.accumulate,
        ranks=Ranks(0, trainer.devices * trainer.nodes),
    )
    splits = {"validation": data.validation} if len(data.validation) else {}
    if trainer.paper_protocol:
        splits["test"] = data.test
    evaluation = {
        name: EvaluationLoader(
            split, pixels, batch_size=settings.batch_size, workers=settings.workers
        )
        for name, split in splits.items()
    }
    return training, evaluation


def _check_sides(model: Spikformer, data: DataSet, side: int | None) -> None:
    stride = model.stem.strides[-1]
    _, height, width = data.input_size
    if (side or height) % stride or (side or width) % stride:
        raise ConfigError(
            f"data.side must be a multiple of {stride} for this model, got {side or f'{height} x {width}'}"
        )


def _check_augment(settings: Augment, data: DataSet) -> None:
    if settings.rand_augment and data.has_frames:
        raise ConfigError(
            f"augment.rand_augment is for pictures, and {data.name} has frames of events: "
            f"augment.event_operation is for them"
        )
    if settings.event_operation and not data.has_frames:
        raise ConfigError(
            f"augment.event_operation is for frames of events, and {data.name} has pictures"
        )
