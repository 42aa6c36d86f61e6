"""What `spikformer bench` prints."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from spikformer.bench.bound import PROTOTYPE_SOURCE
from spikformer.bench.comparison import Comparison, Profile, percentiles
from spikformer.bench.contenders import BASELINE
from spikformer.bench.contest import Contest, agreement, ratios
from spikformer.bench.sweep import ENGINES, Sweep
from spikformer.cli._options import console, plain_table

PRODUCTS = {
    "float32": "PyTorch float32",
    "bf16": "PyTorch bf16",
    "int8": "PyTorch int8",
    "engine int8, dense": "engine int8, dense layer, neurons included",
}


def print_comparison(found: Comparison) -> None:
    for contest in found.contests:
        _print_contest(contest)
    remarks: dict[str, list[str]] = {}
    for name, result in found.largest.results.items():
        remarks.setdefault(result.facts["remark"], []).append(name)
    for remark, names in remarks.items():
        if remark:
            console.print(f"{' and '.join(names)}: {remark}.", soft_wrap=True)
    for name, why in found.absent.items():
        console.print(f"Not run: {name}: {why}.", soft_wrap=True)
    _print_products(found)
    for precision, profile in found.profiles.items():
        _print_layers(precision, profile, found.share_of_bound(precision))


def _print_contest(found: Contest) -> None:
    numbers = "images/s", "times", "p50, ms", "p99, ms", "peak, MiB", "first, s", "same class"
    rounds = max((len(each.seconds) for each in found.results.values()), default=0)
    console.print(
        f"\nBatch {found.batch}, medians of {rounds} alternating rounds and their range",
        style="bold",
    )
    table = plain_table(
        "", *numbers, "largest difference", numbers=[*numbers, "largest difference"]
    )
    reference = found.results.get(BASELINE)
    for name, result in found.results.items():
        times = ratios(result, found)
        latency = percentiles(result)
        compared = ["", ""]
        if reference is not None:
            same, difference = agreement(result, reference)
            compared = [f"{same:.1%} of {len(result.answers)}", f"{difference:.2g}"]
        table.add_row(
            name,
            _ranged([found.batch / second for second in result.seconds], ".1f"),
            _maybe_ranged(times, ".2f"),
            *([f"{latency[p]:.2f}" for p in ("p50", "p99")] if found.batch == 1 else ["", ""]),
            f"{result.facts['peak_mib']:.0f} ({result.facts['above_start_mib']:.0f})",
            f"{result.first_seconds:.2f}",
            *compared,
        )
    console.print(table)
    console.print(
        f"times: as fast as {BASELINE} in the same round. peak: memory of the process (and of that, "
        "above the loaded network). first: from the process's start to its first logits, compiled "
        f"code from a cache. same class, largest difference of a logit: against {BASELINE}.",
        soft_wrap=True,
    )


def _print_products(found: Comparison) -> None:
    products = found.largest.products
    if not products:
        return
    console.print("\nDense products, each at its best shape, in the same rounds", style="bold")
    engines = [name for name in found.largest.results if name.startswith("engine")]
    numbers = ["G MAC/s", "images/s at most", *(f"{name} / that" for name in engines)]
    table = plain_table("", *numbers, numbers=numbers)
    for name, speeds in products.items():
        ceiling = found.ceiling(name)
        table.add_row(
            PRODUCTS.get(name, name),
            _ranged(speeds, ".0f"),
            "" if ceiling is None else f"{ceiling:.1f}",
            *(_maybe_ranged(found.times_ceiling(each, name), ".2f") for each in engines),
        )
    console.print(table)
    if found.dense_macs is not None:
        console.print(
            f"An image takes {found.dense_macs / 1e9:.3f} G multiply-accumulates in a dense network, "
            "attention not counted.",
            soft_wrap=True,
        )


def _print_layers(precision: str, profile: Profile, share: float | None) -> None:
    console.print(
        f"\nengine {precision}, {profile.about['instruction_set']}, "
        f"{profile.about['threads']} threads, by layer, of one image",
        style="bold",
    )
    numbers = "input rate", "M MAC", "us", "us silent", "us bound", "G adds/s", "of bound"
    table = plain_table("", "path", "sums", *numbers, numbers=numbers)
    for row in profile.rows:
        table.add_row(*_layer_cells(row, profile.bound.seconds[row["name"]]))
    total = sum(row["seconds"] for row in profile.rows)
    bound = sum(profile.bound.seconds.values())
    silent = sum(row["silent_seconds"] for row in profile.rows)
    cells = f"{total * 1e6:.1f}", f"{silent * 1e6:.1f}", f"{bound * 1e6:.1f}", ""
    table.add_row("total", "", "", "", "", *cells, f"{bound / total:.0%}", style="bold")
    console.print(table)
    bounds = profile.bound
    reached = "" if share is None else f" The largest batch reached {share:.0%} of it."
    console.print(
        f"The bound takes each layer's additions at the rate of a loop that does nothing else "
        f"({PROTOTYPE_SOURCE}), and everything else as measured: "
        f"{bounds.images_per_second:.1f} images/s ({bounds.slowest:.1f}-{bounds.fastest:.1f} over "
        f"that loop's shapes).{reached}",
        soft_wrap=True,
    )


def _layer_cells(row: Mapping[str, Any], bound: float) -> list[str]:
    times = [
        f"{row['seconds'] * 1e6:.1f}",
        f"{row['silent_seconds'] * 1e6:.1f}",
        f"{bound * 1e6:.1f}",
    ]
    if row["kind"] != "layer":
        return [row["name"], "", "", "", "", *times, "", ""]
    pixels = row["rate"] is None
    return [
        row["name"],
        row["path"],
        row["arithmetic"],
        "pixels" if pixels else f"{row['rate']:.4f}",
        f"{row['macs'] / 1e6:.1f}",
        *times,
        "" if pixels else f"{row['additions'] / row['seconds'] / 1e9:.0f}",
        "" if pixels else f"{bound / row['seconds']:.0%}",
    ]


def print_sweep(found: Sweep) -> None:
    names = list(found.speeds)
    heads = [PRODUCTS[name] if name not in ENGINES else name for name in names]
    console.print(
        f"\n{found.subject}, {found.shape}: G MAC/s of a dense product, by firing rate",
        style="bold",
    )
    table = plain_table("rate", *heads, numbers=["rate", *heads])
    for i, rate in enumerate(found.rates):
        table.add_row(f"{rate:.0%}", *(f"{found.speeds[name][i][0]:.0f}" for name in names))
    console.print(table)
    dense = [name for name in names if "events" not in name]
    for events in (name for name in names if "events" in name):
        said = ", ".join(
            f"{PRODUCTS[name]} {_from(found.crossover(events, name))}" for name in dense
        )
        console.print(f"{events} is overtaken by: {said}.", soft_wrap=True)


def _from(rate: float | None) -> str:
    return "never here" if rate is None else f"from {rate:.1%}"


def _ranged(values: Sequence[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):{form}} ({low:{form}}-{high:{form}})"


def _maybe_ranged(values: Sequence[float] | None, form: str) -> str:
    return "" if values is None else _ranged(values, form)
