"""Static figures for papers: SVG and PDF of what the page shows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikformer._files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".pdf")
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "spikformer",
    "pdf.fonttype": 42,
    "lines.markersize": 3,
}
NEITHER = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Equal runs give equal files: no clock is written into them."""


def draw_figures(found: dict[str, Any], folder: Path) -> list[Path]:
    """Curves, confusion, rates, anytime and energy, each in SVG and PDF.

    Args:
        found: What `collect` gave.
        folder: Where they go; it is made.

    Returns:
        The files.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    written = []
    with mpl.rc_context(STYLE):
        for name, (size, draw) in FIGURES.items():
            if name == "confusion" and found["confusion"]["counts"] is None:
                continue
            figure = Figure(figsize=size, layout="constrained")
            draw(figure, found)
            for suffix in SUFFIXES:
                path = folder / f"{name}{suffix}"
                with replacing(path) as partial:
                    figure.savefig(partial, metadata=NEITHER[suffix])
                written.append(path)
    return written


def _curves(figure: Any, found: dict[str, Any]) -> None:
    columns, rows = found["curves"]["columns"], found["curves"]["rows"]
    curve = dict(zip(columns, zip(*rows, strict=True), strict=True))
    loss, top1 = figure.subplots(1, 2)
    for axes, label, names in (
        (loss, "cross-entropy", ("train_loss", "validation_loss", "test_loss")),
        (top1, "top-1", ("validation_top1", "test_top1")),
    ):
        for name in names:
            if name in curve:
                said = name.replace("_", " ").replace("top1", "top-1")
                axes.plot(curve["epoch"], [_or_nan(y) for y in curve[name]], "o-", label=said)
        _label(axes, "epoch", label)


def _confusion(figure: Any, found: dict[str, Any]) -> None:
    counts, classes = found["confusion"]["counts"], found["confusion"]["classes"]
    axes = figure.subplots()
    shares = [[n / max(1, sum(row)) for n in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=90 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(places, classes)
    axes.set_xlabel("says")
    axes.set_ylabel("is")
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            color = "white" if shares[i][j] > 0.6 else "black"
            axes.text(j, i, str(n) if n else "", ha="center", va="center", color=color, fontsize=6)


def _rates(figure: Any, found: dict[str, Any]) -> None:
    layers = found["rates"]["layers"]
    axes = figure.subplots()
    image = axes.imshow([row["by_step"] for row in layers], cmap="Blues", vmin=0, aspect="auto")
    axes.set_yticks(range(len(layers)), [row["layer"] for row in layers])
    steps = found["rates"]["steps"]
    axes.set_xticks(range(steps), range(1, steps + 1))
    axes.set_xlabel("step")
    figure.colorbar(image, label="spikes per neuron per step")


def _anytime(figure: Any, found: dict[str, Any]) -> None:
    anytime = found["anytime"]
    axes = figure.subplots()
    axes.plot(range(1, len(anytime["top1"]) + 1), anytime["top1"], "o-", label="first t steps vote")
    axes.plot(anytime["exit_steps"], anytime["exit_top1"], "s--", label="leaving early")
    _label(axes, "(mean) steps", "top-1")


def _energy(figure: Any, found: dict[str, Any]) -> None:
    energy = found["energy"]
    conventions = energy["conventions"][::-1]
    axes = figure.subplots()
    bars = axes.barh(
        [each["name"] for each in conventions],
        [each["energy_mj"] * energy["per_mj"] for each in conventions],
    )
    axes.bar_label(bars, fmt="{:.3g}", padding=2)
    axes.set_xlabel(f"energy of one image, {energy['unit']}")
    axes.margins(x=0.15)


FIGURES: Mapping[str, tuple[tuple[float, float], Callable[[Any, dict[str, Any]], None]]] = {
    "curves": ((5.5, 2.2), _curves),
    "confusion": ((3.2, 3.2), _confusion),
    "rates": ((4.0, 3.5), _rates),
    "anytime": ((3.2, 2.4), _anytime),
    "energy": ((4.0, 2.6), _energy),
}
"""Name to its size in inches and what draws it."""


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _label(axes: "Axes", x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False)
