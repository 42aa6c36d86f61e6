"""Objects that live in processes of their own, so that their memory, and their ends, are theirs."""

import contextlib
import ctypes
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from spikformer.errors import SpikformerError, first_line

PATIENCE = 5.0
"""Seconds that an ended process has to leave."""


class Failed(SpikformerError):  # noqa: N818 it is what happened to a contender, and is reported
    """An object in another process could not go on; the message is a sentence for the reader."""


class Remote:
    """An object in another process: `ask` calls its methods.

    Args:
        begun: When its process was started, by `time.perf_counter`.
    """

    def __init__(self, connection: Connection, begun: float) -> None:
        self._connection = connection
        self.begun = begun

    def ask(self, question: str, *arguments: Any) -> Any:
        """What the object's method answers.

        Raises:
            Failed: when it raised, or its process ended.
        """
        try:
            self._connection.send((question, arguments))
            went_well, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise Failed("its process ended early: memory may have run out") from error
        if not went_well:
            raise Failed(answer)
        return answer

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(None)


@contextlib.contextmanager
def elsewhere(build: Callable[..., Any], *arguments: Any) -> Iterator[Remote]:
    """What `build(*arguments)` makes, in a fresh process, which ends with the block.

    Args:
        build: Importable by name; so are the arguments. What it imports is all that is loaded.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
    begun = time.perf_counter()
    process.start()
    theirs.close()
    remote = Remote(ours, begun)
    try:
        yield remote
    finally:
        remote.leave()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def _serve(connection: Connection, build: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        thing, fault = None, ""
        try:
            thing = build(*arguments)
        except Exception as error:  # a stranger's library may raise anything
            fault = sentence(error)
        while (call := connection.recv()) is not None:
            question, values = call
            if fault:
                connection.send((False, fault))
                continue
            try:
                answer = True, getattr(thing, question)(*values)
            except Exception as error:
                answer = False, sentence(error)
            connection.send(answer)


def sentence(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error) if isinstance(error, SpikformerError) else first_line(error)


def resident(line: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at its peak. 0 where the system does not say."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{os.getpid()}/status").read_text()
        if found := re.search(rf"{line}:\s+(\d+) kB", status):
            return int(found[1]) / 1024
    return 0.0


def trim() -> None:
    """Give back what was freed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """Give back what was freed, and let the peak of memory begin anew."""
    trim()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
