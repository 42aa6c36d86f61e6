"""`spikformer data`."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from spikformer.cli._options import console, plain_table, run
from spikformer.errors import DataError


def main(arguments: Sequence[str]) -> None:
    run("data", data_command, arguments)


def data_command(root: Path | None = None) -> None:
    """List the data sets, and what is found of them.

    Args:
        root: Folder with official files; by default $SPIKFORMER_DATA, else data.
    """
    console.print(found(root))


def found(root: Path | None) -> Table:
    """A row for each data set."""
    from spikformer.data import DATASETS, data_root

    table = plain_table("data set", "found")
    for name, source in DATASETS.items():
        try:
            table.add_row(name, source.check(data_root(root)))
        except DataError as error:
            table.add_row(name, str(error))
    return table
