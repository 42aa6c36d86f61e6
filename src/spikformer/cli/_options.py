"""Options of a command, from the types and docstring of a function."""

import io
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from spikformer._files import replacing
from spikformer.errors import ConfigError

console = Console(soft_wrap=True, highlight=False, markup=False, width=200)
"""Where commands print what was asked for; wide, because a cut cell is worse than a wrapped line."""


def run(command: str, function: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Call `function` with what the arguments say, or print its help.

    Returns:
        The exit code: what `function` returns, or 0.

    Raises:
        ConfigError: for an unknown option, with the nearest known ones, or a wrong value.
    """
    prog = f"spikformer {command}"
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            call = tyro.cli(_deferred(function), args=list(arguments), prog=prog)
    except SystemExit as stop:
        if stop.code in (None, 0):  # help was asked for, and printed
            return 0
        raise ConfigError(f"{_sentence(said.getvalue())} ({prog} --help says more)") from stop
    return call() or 0


def chosen(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def plain_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table without lines, whose cells are never cut; `numbers` stand below each other."""
    table = Table(box=None, show_header=any(columns))
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column in numbers else "left")
    return table


def must_be_writable(path: Path) -> None:
    """Check where something will be written, before the work that it is about.

    Raises:
        ConfigError: when it is a folder, or there is none to put it in.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a file to write")
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{path} cannot be written: {folder} is no folder that takes files")


def write_json(path: Path, facts: Any) -> None:
    """Write what a command found, and say where."""
    with replacing(path) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n")
    console.print(f"written: {path}")


def _deferred(function: Callable[..., Any]) -> Callable[..., Any]:
    # Parsing and doing are kept apart, so that only what the parser says is caught above.
    @wraps(function)
    def deferred(*args: Any, **kwargs: Any) -> Any:
        return partial(function, *args, **kwargs)

    return deferred


def _sentence(box: str) -> str:
    """What one of tyro's framed errors says, in one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    parts = re.split(r"^[─-]{3,}$", "\n".join(lines), flags=re.MULTILINE)
    sections = [part.split() for part in parts if part.strip()]
    if not box.startswith("╭"):  # without Unicode there is no frame, and the title is a section
        del sections[0]
    first, *others = sections
    message = " ".join(first).replace("Unrecognized options", "unknown option")
    if message.startswith("Missing from"):  # then come its name or kind, and its help
        _, missing = message.replace("(required)", "").split(":", 1)
        kind, _, help = missing.strip().partition(" ")
        return (
            f"{missing.strip()} is missing"
            if kind.startswith("-")
            else f"an argument is missing: {help}"
        )
    if others and others[0][:1] == ["Perhaps"]:
        near = dict.fromkeys(word for word in others[0] if word.startswith("--"))
        return f"{message}; did you mean {' or '.join(near)}?"
    return message
