"""`spikformer report RUN`."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from spikformer.cli._options import chosen, console, run
from spikformer.errors import ConfigError


def main(arguments: Sequence[str]) -> None:
    run("report", report_command, arguments)


def report_command(
    source: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    root: Path | None = None,
    samples: int = 1000,
    figures: Path | None = None,
    neuron: str | None = None,
    attention: str | None = None,
) -> None:
    """One HTML page about a run, which opens from disk.

    Args:
        source: Folder of a run that is finished.
        out: Where to write the page; report.html in that folder by default.
        root: Folder with the data set's official files.
        samples: Test images to look at; accuracies of the evaluation are of all.
        figures: Folder for figures in SVG and PDF, for papers.
        neuron: The neuron that the run was trained with, when it is your own: file.py:Class.
        attention: The attention, likewise.
    """
    for package in ("jinja2", "matplotlib"):
        if find_spec(package) is None:
            raise ConfigError(f"reports need {package}: pip install 'spikformer[report]'")
    from spikformer.report.page import write_report

    page = write_report(
        source,
        out,
        root=root,
        samples=samples,
        figures=figures,
        console=Console(file=sys.stderr),
        **chosen(neuron=neuron, attention=attention),
    )
    console.print(f"written: {page.resolve()}")
    if figures is not None:
        console.print(f"drawn: {figures}")
