"""Pictures of what was measured."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikformer._files import replacing
from spikformer.bench.comparison import Comparison
from spikformer.bench.sweep import Sweep
from spikformer.report.figures import NEITHER, STYLE

CEILINGS = ("float32", "bf16", "int8")
"""Dense products that are drawn as lines."""
WIDTHS, HEIGHT = {True: 4.2, False: 2.8}, 3.2
"""Inches: of a comparison, and of a sweep's layer."""
EVENTS = "-"
DENSE = "--"
LOOKS = {
    "engine int8, events": ("tab:red", EVENTS),
    "engine float32, events": ("tab:orange", EVENTS),
    "engine int8, dense": ("tab:purple", DENSE),
    "int8": ("tab:blue", DENSE),
    "bf16": ("tab:cyan", DENSE),
    "float32": ("tab:gray", DENSE),
}
"""A contender of the sweep to its colour and line; PyTorch's products by their type."""
PYTORCH = ("int8", "bf16", "float32")


def draw(path: Path, comparison: Comparison | None, sweeps: Sequence[Sweep]) -> None:
    """Images/s of all contenders under the dense ceilings, and speed against firing rate.

    Args:
        path: Ends in .png, .svg or .pdf.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = ([comparison] if comparison is not None else []) + list(sweeps)
    widths = [WIDTHS[isinstance(each, Comparison)] for each in drawn]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(sum(widths), HEIGHT), layout="constrained")
        grid: Any = figure.subplots(1, len(drawn), squeeze=False, width_ratios=widths)
        for axes, each in zip(grid[0], drawn, strict=True):
            if isinstance(each, Comparison):
                _draw_contest(axes, each)
            else:
                _draw_sweep(axes, each)
        if sweeps:
            lines, labels = grid[0, -1].get_legend_handles_labels()
            columns = min(len(labels), 2 * len(drawn))
            figure.legend(lines, labels, loc="outside lower center", ncols=columns, frameon=False)
        with replacing(path) as partial:
            figure.savefig(partial, dpi=200, metadata=NEITHER.get(path.suffix))


def _draw_contest(axes: Any, comparison: Comparison) -> None:
    found = comparison.largest
    names = list(found.results)[::-1]
    speeds = [found.batch / statistics.median(found.results[name].seconds) for name in names]
    colours = ["tab:red" if name.startswith("engine") else "tab:gray" for name in names]
    bars = axes.barh(names, speeds, color=colours)
    axes.bar_label(bars, fmt="{:.0f}", padding=2)
    for product in CEILINGS:
        if (ceiling := comparison.ceiling(product)) is not None:
            axes.axvline(ceiling, color=LOOKS[product][0], linestyle=DENSE, linewidth=1)
            axes.text(
                ceiling,
                1.01,
                product,
                fontsize=6,
                rotation=45,
                color=LOOKS[product][0],
                transform=axes.get_xaxis_transform(),
            )
    axes.set_xlabel(f"images/s, batch {found.batch} (lines: dense ceilings)")
    axes.margins(x=0.12)


def _draw_sweep(axes: Any, found: Sweep) -> None:
    rates = [100 * rate for rate in found.rates]
    for name, (colour, line) in LOOKS.items():
        if name in found.speeds:
            median, least, most = zip(*found.speeds[name], strict=True)
            label = f"PyTorch {name} product" if name in PYTORCH else name
            axes.plot(rates, median, line, marker="o", color=colour, label=label)
            axes.fill_between(rates, least, most, color=colour, alpha=0.2, linewidth=0)
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(found.subject)
    axes.set_xlabel("firing rate, %")
    axes.set_ylabel("G dense multiply-accumulates/s")
