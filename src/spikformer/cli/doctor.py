"""`spikformer doctor`."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from spikformer.cli._options import console, plain_table, run
from spikformer.cli.data import found

EXTRAS = {"lightning": "train", "tensorboard": "train", "matplotlib": "report"}


def main(arguments: Sequence[str]) -> None:
    run("doctor", doctor_command, arguments)


def doctor_command(root: Path | None = None) -> None:
    """Versions, devices, which kernels run and why, the engine, and the data that are found.

    Args:
        root: Folder with official files of data sets.
    """
    for title, table in (
        ("versions", _versions()),
        ("devices", _devices()),
        ("operations", _operations()),
        ("engine", _engine()),
        ("data", found(root)),
    ):
        console.print(title, style="bold")
        console.print(table)


def _versions() -> Table:
    from importlib.util import find_spec

    from spikformer.training.environment import git_commit, versions

    table = plain_table("", "")
    for name, version in versions().items():
        table.add_row(name, version or "not installed")
    for package, extra in EXTRAS.items():
        if find_spec(package) is None:
            table.add_row(package, f"missing: pip install 'spikformer[{extra}]'")
    table.add_row("commit", git_commit() or "not from a repository")
    return table


def _devices() -> Table:
    import torch

    from spikformer.training.environment import processor

    table = plain_table("", "")
    table.add_row("cpu", f"{processor()}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            table.add_row(f"cuda:{index}", torch.cuda.get_device_name(index))
    else:
        table.add_row("cuda", "none: PyTorch sees no GPU")
    if torch.backends.mps.is_available():
        table.add_row("mps", "available")
    return table


def _operations() -> Table:
    from spikformer.kernels import OPERATIONS, backends

    table = plain_table("operation", "eager", "compiled", "because")
    for name in OPERATIONS:
        table.add_row(name, *backends(name))
    return table


def _engine() -> Table:
    from spikformer.engine import _library

    table = plain_table("", "")
    if (reason := _library.missing()) is not None:
        table.add_row("library", f"none: {reason}")
        return table
    table.add_row("library", str(_library._path()))
    table.add_row("instruction sets", ", ".join(_library.instruction_sets()))
    table.add_row("threads", str(_library.processors()))
    return table
