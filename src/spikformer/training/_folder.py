"""The folder of a run: found, held against other processes, and emptied."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from spikformer._files import PARTIAL, locked
from spikformer.errors import ConfigError
from spikformer.training.run import Run


def new_folder(name: str) -> Path:
    """`runs/<name>/<time>`, made now: runs that begin in the same second get two."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / name / stamp
    number = 1
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
        number += 1
        folder = folder.with_name(f"{stamp}-{number}")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder. If it ends empty, it is removed.

    Raises:
        ConfigError: when another process trains there, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file: a run needs a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BlockingIOError as error:
            raise ConfigError(f"another process is training in {str(folder)!r}") from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it is not empty
                os.removedirs(folder)


def check_free(run: Run, overwrite: bool) -> None:
    """See that a new run may have this folder.

    Raises:
        ConfigError: when there is something in it, and it is not a run to overwrite.
    """
    if not any(run.path.iterdir()):
        return
    if not overwrite:
        raise ConfigError(
            f"{str(run.path)!r} is not empty: choose another folder, --resume it, or --overwrite it"
        )
    if not run.record.is_file():
        raise ConfigError(f"{str(run.path)!r} is not the folder of a run; it is not overwritten")


def clear(run: Run, resume: bool) -> None:
    """Remove everything; or, to go on, what a kill left half-written, and what was said of weights
    that will change.
    """
    if resume:
        for stale in (*run.path.glob(PARTIAL), *run.path.glob("evaluation-*.json")):
            stale.unlink(missing_ok=True)
        return
    for old in run.path.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
