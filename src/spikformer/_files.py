"""Files: those to read must be there, and those written are never seen half."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikformer.errors import DataError

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


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
