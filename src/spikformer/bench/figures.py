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
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(drawn), 3.2), layout="constrained")
        for axes, each in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            if isinstance(each, Comparison):
                _draw_contest(axes, each)
            else:
                _draw_sweep(axes, each)
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
                ceiling, len(names) - 0.4, product, fontsize=6, rotation=45, color=LOOKS[product][0]
            )
    axes.set_xlabel(f"images/s, batch {found.batch}; lines: dense products alone")
    axes.margins(x=0.12)


def _draw_sweep(axes: Any, found: Sweep) -> None:
    rates = [100 * rate for rate in found.rates]
    for name, (colour, line) in LOOKS.items():
        if name in found.speeds:
            median, least, most = zip(*found.speeds[name], strict=True)
            label = f"PyTorch {name} product" if name in PYTORCH else name
            axes.plot(rates, median, line, marker="o", color=colour, label=label)
            axes.fill_between(rates, least, most, color=colour, alpha=0.2, linewidth=0)
    axes.set_yscale("log")
    axes.set_title(found.subject)
    axes.set_xlabel("firing rate, %")
    axes.set_ylabel("G multiply-accumulates/s of a dense product")
    axes.legend(frameon=False, fontsize=6)
