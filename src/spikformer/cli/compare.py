"""`spikformer compare RUN RUN ...`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from spikformer.cli._options import console, plain_table, run

if TYPE_CHECKING:
    from spikformer.training.comparison import Comparison

LONG_HASH = re.compile(r"([0-9a-f]{12})[0-9a-f]{28,}")


def main(arguments: Sequence[str]) -> None:
    run("compare", compare_command, arguments)


def compare_command(runs: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """What several runs were told, what they reached, and their curves side by side.

    Args:
        runs: Folders of runs, or curves of others as CSV (epoch, eval_top1).
    """
    from spikformer.training.comparison import compare

    found = compare(runs)
    console.print(_table(found, "result", found.facts))
    if found.settings:
        console.print()
        console.print(_table(found, "setting that differs", found.settings))
    console.print()
    rows: dict[str, tuple[Any, ...]] = {"": found.measured}
    rows |= {str(epoch): found.curves[epoch] for epoch in found.milestones()}
    console.print(_table(found, "epoch", rows))


def _table(found: "Comparison", title: str, rows: "dict[str, tuple[Any, ...]] | Any") -> Any:
    table = plain_table(title, *found.names)
    for name, values in rows.items():
        if any(value is not None for value in values):
            table.add_row(name, *(_shown(name, value) for value in values))
    return table


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return LONG_HASH.sub(r"\1", str(value))
    return f"{value:.2f}" if name == "hours" else f"{value:.2%}"
