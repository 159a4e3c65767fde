"""Draw how cost grows: ``python -m tools.bench.plots PROGRAM FOLDER`` writes one SVG for each sweep."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path as File

import matplotlib as mpl
from attrs import frozen
from matplotlib.figure import Figure

from tools.bench.paths import Here, Measured, Path, Program, measure
from tools.bench.python_paths import Mapped

ROUNDS = 9
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Colours that most people can tell apart."""


@frozen
class Sweep:
    """One plot: what its paths are named by, and how its axes read."""

    group: str
    file: str
    axis: str
    title: str
    logarithmic: bool = True
    log_cost: bool = False


SWEEPS = (
    Sweep("over working set", "working-set", "pages", "Cost against working set", log_cost=True),
    Sweep(
        "over fill", "fill", "pages asked for, % of 64k slots", "Batches against the IOTLB's fill", logarithmic=False
    ),
    Sweep("over depth", "depth", "levels of tables", "Walks against depth (16k pages)", logarithmic=False),
    Sweep("over threads", "threads", "threads on one engine", "CPU time against threads", logarithmic=False),
    Sweep("over streams", "streams", "requesters that take turns at random", "Batches of hits against streams"),
)
BATCHES = Sweep("over batch size", "batch-size", "rows of a batch", "translate_many, from Python", log_cost=True)


def series_of(found: dict[str, Measured]) -> dict[str, list[tuple[int, float]]]:
    """Sort measurements by what they are called: "series @ x"."""
    series: dict[str, list[tuple[int, float]]] = {}
    for name, measured in found.items():
        label, _, place = name.rpartition(" @ ")
        series.setdefault(label, []).append((int(place), measured.median))
    return series


def draw(sweep: Sweep, found: dict[str, Measured], folder: File) -> None:
    """Draw one plot."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (label, points) in zip(OKABE_ITO, series_of(found).items(), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=label)
    if sweep.logarithmic:
        axes.set_xscale("log", base=2)
    if sweep.log_cost:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=sweep.axis, ylabel="ns of CPU time each (median)", title=sweep.title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(folder / f"{sweep.file}.svg", metadata={"Date": None, "Creator": None})


def batch_sizes() -> dict[str, Measured]:
    """Measure batches of few and many rows."""
    world = Mapped(1024, 2048)
    world.keep_hits(1024)

    def batches(rows: int) -> int:
        times = max(1, 8192 // rows)
        for _ in range(times):
            world.batch(rows)
        return times * rows

    paths = [Path(f"translate_many @ {1 << lg2}", partial(batches, 1 << lg2)) for lg2 in range(17)]
    return measure([Here(paths)], ROUNDS)


def main(arguments: list[str]) -> None:
    """Measure and draw every sweep."""
    parser = argparse.ArgumentParser(prog="tools.bench.plots", description=__doc__)
    parser.add_argument("program", type=File, help="the engine's benchmark program")
    parser.add_argument("folder", type=File, help="where plots are written to")
    asked = parser.parse_args(arguments)
    mpl.rcParams["svg.hashsalt"] = "viommu"  # the same measurements make the same file
    mpl.rcParams["svg.fonttype"] = "none"  # letters, not their outlines
    asked.folder.mkdir(parents=True, exist_ok=True)
    for sweep in SWEEPS:
        with Program(asked.program, sweep.group) as program:
            draw(sweep, measure([program], ROUNDS), asked.folder)
    draw(BATCHES, batch_sizes(), asked.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
