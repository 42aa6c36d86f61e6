"""`spikformer data`, `spikformer data verify NAME` and `spikformer data download NAME`."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
    track,
)
from rich.table import Table

from spikformer.cli._options import console, plain_table, run
from spikformer.errors import ConfigError, DataError, unknown_name


def main(arguments: Sequence[str]) -> None:
    commands = {"verify": verify_command, "download": download_command}
    if arguments and arguments[0] in commands:
        run(f"data {arguments[0]}", commands[arguments[0]], arguments[1:])
        return
    if arguments and not arguments[0].startswith("-"):
        raise unknown_name("data command", arguments[0], commands)
    run("data", data_command, arguments)


def data_command(root: Path | None = None) -> None:
    """List the data sets, what is found of them, and where the rest is to be had.

    `spikformer data verify NAME` reads every file of one, `spikformer data download NAME` fetches it.

    Args:
        root: Folder with official files; by default $SPIKFORMER_DATA, else data.
    """
    if root is not None and not root.is_dir():
        raise DataError(f"there is no folder {str(root)!r}")
    console.print(found(root))


def verify_command(name: Annotated[str, tyro.conf.Positional], root: Path | None = None) -> None:
    """Read every file of a data set, and name those that are damaged.

    Args:
        name: As `spikformer data` lists it.
        root: Folder with official files; by default $SPIKFORMER_DATA, else data.
    """
    from spikformer.data import data_root, find_data

    source = find_data(name)
    said = source.check(data_root(root))
    paths, read = source.files(data_root(root))
    damaged = []
    for path in track(paths, f"reading {name}", console=Console(file=sys.stderr), transient=True):
        try:
            read(path)
        except DataError as error:
            damaged.append(str(error))
    for line in damaged:
        console.print(line)
    if damaged:
        raise DataError(f"{len(damaged)} of {len(paths)} files of {name} are damaged")
    console.print(f"{said}; all {len(paths)} files can be read" if len(paths) else said)


def download_command(
    name: Annotated[str, tyro.conf.Positional],
    root: Path | None = None,
    keep_archives: bool = False,
    again: bool = False,
) -> None:
    """Fetch a data set, see that it is what was published, and unpack it.

    A download that was broken off goes on where it stopped. What is there already is left alone.

    Args:
        name: As `spikformer data` lists it.
        root: Folder to fetch it to; by default $SPIKFORMER_DATA, else data.
        keep_archives: Keep what was fetched and unpacked.
        again: Fetch it also where it is there.
    """
    from spikformer.data import data_root, find_data
    from spikformer.data.origin import fetch, unpack

    source = find_data(name)
    origin = source.origin
    if not origin.archives:
        raise ConfigError(f"{name} cannot be fetched from here: see {origin.home} ({origin.terms})")
    with suppress(DataError):
        there = source.check(data_root(root))
        if not again:
            console.print(f"{name} is there: {there}")
            return
    packed: list[Path] = []
    folder = data_root(root) / origin.folder
    console.print(f"{name}: {origin.home}, {origin.terms}", soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        for archive in origin.archives:
            task = progress.add_task(archive.name, total=None)

            def show(there: int, total: int | None, task: TaskID = task) -> None:
                progress.update(task, completed=there, total=total)

            packed.append(fetch(archive, folder, show))
    for archive in track(packed, "unpacking", console=Console(file=sys.stderr), transient=True):
        unpack(archive, folder)
    for archive, path in zip(origin.archives, packed, strict=True):
        if archive.url is not None and not keep_archives:
            path.unlink()
    console.print(f"{name}: {source.check(data_root(root))}")


def found(root: Path | None) -> Table:
    """Three lines for each data set: what is found, where it comes from, its terms."""
    from spikformer.data import DATASETS, data_root

    table = plain_table("data set", "what is found; where the rest is to be had; its terms")
    for name, source in DATASETS.items():
        try:
            said = source.check(data_root(root))
        except DataError as error:
            said = str(error).split(":")[0]
        table.add_row(name, said)
        for line in (source.origin.home, source.origin.terms):
            table.add_row("", line, style="dim")
    return table
