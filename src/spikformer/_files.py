"""Files: those to read must be there, and those written are never seen half."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikformer.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PARTIAL = ".*.partial*"
"""Matches what `replacing` was writing when its process was killed."""


def must_exist(path: Path) -> None:
    """Raise a DataError when there is no such file."""
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")


@contextmanager
def replacing(path: str | os.PathLike[str], *, flush: bool = True) -> Iterator[Path]:
    """A path to write to, beside `path`; what was written takes its place when the block ends.

    It is flushed to disk before, unless it can be made again. When the block raises, or the disk is
    full, `path` is untouched.

    Raises:
        OSError: whatever writing raised.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose a format by it.
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
        if flush:
            _flush(partial)
        partial.replace(target)
        if flush:
            _flush(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder that one process has at a time; it ends with the process, however that ends.

    Where the system has no such locks, nothing is locked.

    Raises:
        BlockingIOError: when another process has it.
    """
    with _opened(folder) as descriptor:
        _lock(descriptor)
        # Forked processes would hold it too, and data workers outlive a killed one by seconds.
        held = [descriptor]

        def let_go() -> None:
            while held:
                os.close(held.pop())

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=let_go)
        try:
            yield
        finally:
            held.clear()


def _lock(descriptor: int) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:  # others mean that this file system has no locks
            raise


def _flush(path: Path) -> None:
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
