"""One HTML file about a run: it opens from disk, and asks nobody for anything."""

import os
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

import spikformer
from spikformer._files import replacing
from spikformer.errors import DataError
from spikformer.report.collect import SAMPLES, collect
from spikformer.report.views import FILTERS

MOST_BYTES = 5_000_000
"""Of a page."""
SCRIPTS = ("network.js", "charts.js", "explorer.js", "drawing.js", "page.js")


def write_report(
    source: str | os.PathLike[str],
    path: Path | None = None,
    *,
    root: Path | None = None,
    samples: int = SAMPLES,
    figures: Path | None = None,
    console: Console | None = None,
    **overrides: Any,
) -> Path:
    """Write a page about a run: what was trained, how well it does, what it does, what that costs.

    Args:
        source: Folder of a run that is finished.
        path: Of the page; `report.html` in that folder by default.
        root: Folder with the official files of its data set.
        samples: Test images to look at, at even distances in the split. Accuracies of the
            evaluation are of all.
        figures: Folder for figures in SVG and PDF. None draws none.
        console: Where progress is shown. None shows none.
        overrides: As in `load_model`: a neuron or attention of your own.

    Returns:
        Where the page lies.

    Raises:
        ConfigError: when `samples` is no positive number, and as `evaluate`.
        DataError: when the run is not finished, and as `evaluate`.
        WeightsError: as `evaluate`.
    """
    found = collect(source, root=root, samples=samples, console=console, **overrides)
    text = render(found)
    if len(text.encode()) > MOST_BYTES:
        raise DataError(f"the page would be larger than {MOST_BYTES:,} bytes: ask for fewer images")
    target = path or Path(source) / "report.html"
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")
    if figures is not None:
        from spikformer.report.figures import draw_figures

        draw_figures(found, figures)
    return target


def render(found: dict[str, Any]) -> str:
    """The page, as text, of what `collect` found."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("page.html").render(
        **found,
        version=spikformer.__version__,
        style=_asset("style.css"),
        script="\n".join(_asset(name) for name in SCRIPTS),
        shown={name: found[name] for name in DRAWN},
    )


DRAWN = ("curves", "explorer", "energy", "anytime", "network", "examples")
"""Sections that scripts draw; they lie in the page as JSON."""


def _asset(name: str) -> str:
    return resources.files("spikformer.report").joinpath("assets", name).read_text("utf-8")
