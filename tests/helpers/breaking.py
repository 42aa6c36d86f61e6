"""Trainings that break off where a test wants them to, in this process or in one of their own."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from spikformer import _files
from spikformer.recipe import Recipe
from spikformer.training.run import Run

MODULES = ["spikformer.training.fit", "spikformer.training.module", "torch.utils.tensorboard"]
"""What takes seconds to import: once, for all processes."""


class BrokenOffError(Exception):
    """What breaks a training off in the process of the tests."""


@dataclass(frozen=True)
class Moment:
    """When to break off.

    Args:
        place: `step`: after one, before what it brings; `validation`: within one, before a batch;
            `save`: half a checkpoint is on the disk; `replace NAME`: a file is written, but not in its
            place; `epoch`: just after one's end.
        count: At the how-manieth time there.
        delay: Seconds after that, for processes that are killed.
    """

    place: str
    count: int
    delay: float = 0.0


class Breaking:
    """Calls `stop` at a moment of any training within the block."""

    def __init__(self, moment: Moment, stop: Callable[[], None]) -> None:
        self.moment = moment
        self.stop = stop
        self.left = moment.count

    def __enter__(self) -> None:
        from spikformer.training.callbacks import StepLog
        from spikformer.training.checkpoints import Checkpoints
        from spikformer.training.module import Classifier

        owner, name, wrap = {
            "step": (StepLog, "on_train_batch_end", self.before),
            "validation": (Classifier, "validation_step", self.before),
            "save": (_files, "_flush", self.halfway),
            "epoch": (Checkpoints, "on_train_epoch_end", self.after),
        }.get(self.moment.place, (Path, "replace", self.before_replacing))
        self.patch = mock.patch.object(owner, name, wrap(getattr(owner, name)))
        self.patch.__enter__()

    def __exit__(self, *_exception: Any) -> None:
        self.patch.__exit__(None, None, None)

    def here(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop()

    def before(self, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.here()
            return original(*args, **kwargs)

        return call

    def after(self, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            original(*args, **kwargs)
            self.here()

        return call

    def halfway(self, original: Any) -> Any:
        def call(path: Path) -> None:
            if "resume" in path.name:
                if self.left == 1:
                    os.truncate(path, path.stat().st_size // 2)
                self.here()
            original(path)

        return call

    def before_replacing(self, original: Any) -> Any:
        def call(path: Path, target: Path) -> Any:
            if target.name == self.moment.place.removeprefix("replace "):
                self.here()
            return original(path, target)

        return call


def broken_and_resumed(recipe: Recipe, run: Path, moment: Moment) -> Run:
    """A run that an exception broke off, and that the same process then resumed, apart."""
    process = _prepared().Process(target=_break_and_resume, args=(recipe, run, moment))
    process.start()
    process.join()
    assert process.exitcode == 0
    return Run(run)


class Training:
    """`train(recipe, run)` in a process of its own, or in one for each rank.

    Args:
        killed: When it kills itself (of several ranks, the first does).
        watch: Called in the process with the rank; gives a context around the training.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        *,
        resume: bool = False,
        killed: Moment | None = None,
        watch: Callable[[int], Any] | None = None,
    ) -> None:
        context = _prepared()
        world = recipe.trainer.devices
        port = _free_port()
        self.processes = []
        for rank in range(world):
            together = {} if world == 1 else _torchrun(rank, world, port)
            arguments = (recipe, run, resume, killed if rank == 0 else None, watch, rank, together)
            self.processes.append(context.Process(target=_train, args=arguments))
        for process in self.processes:
            process.start()

    def wait(self, seconds: float = 300) -> int:
        """The exit code of the first rank; if it did not end well, the others are killed too."""
        first, *others = self.processes
        try:
            first.join(seconds)
            if first.exitcode == 0:
                for process in others:
                    process.join(seconds)
                    assert process.exitcode == 0
        finally:
            for process in self.processes:
                process.kill()
                process.join()
        return first.exitcode


def train_apart(recipe: Recipe, run: Path, **options: Any) -> Run:
    """Train in other processes, to the end."""
    assert Training(recipe, run, **options).wait() == 0
    return Run(run)


def kill_and_wait(recipe: Recipe, run: Path, moment: Moment, *, resume: bool = False) -> None:
    """Train in other processes, until they are killed."""
    assert Training(recipe, run, resume=resume, killed=moment).wait() == -signal.SIGKILL


def _prepared() -> Any:
    """Forks a process that has imported everything, but is not the one of the tests.

    That one checks the shape of every argument, which takes longer than training.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    return context


def _break_and_resume(recipe: Recipe, run: Path, moment: Moment) -> None:
    from spikformer.training.fit import train

    def stop() -> None:
        raise BrokenOffError

    torch.set_num_threads(1)
    try:
        with Breaking(moment, stop):
            train(recipe, run)
    except BrokenOffError:
        assert Run(run).facts()["status"] == "failed"
        train(recipe, run, resume=True)
    else:
        raise AssertionError(f"training never came to {moment}")


def _train(
    recipe: Recipe,
    run: Path,
    resume: bool,
    killed: Moment | None,
    watch: Callable[[int], Any] | None,
    rank: int,
    together: dict[str, str],
) -> None:
    from spikformer.training.fit import train

    os.environ.update(together)
    torch.set_num_threads(1)  # sums round by how they are divided
    # Its own processes, the data workers, start as anywhere else.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    with ExitStack() as stack:
        if killed is not None:
            stack.enter_context(Breaking(killed, lambda: _kill_after(killed.delay)))
        stack.enter_context(watch(rank) if watch else nullcontext())
        train(recipe, run, resume=resume)


def _kill_after(seconds: float) -> None:
    if seconds:
        threading.Timer(seconds, _kill_after, [0]).start()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _torchrun(rank: int, world: int, port: int) -> dict[str, str]:
    """What `torchrun` tells its processes."""
    names: Sequence[str] = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    values = (rank, rank, world, world, port)
    told = {name: str(value) for name, value in zip(names, values, strict=True)}
    return told | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "tests", "GROUP_RANK": "0"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
