"""The pictures of the report, in colours that colour-blind people can tell apart (Okabe and Ito)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
LOOK: dict[str, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.10g}")


def throughput(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw jobs per second, one bar per contender, fastest on top; rows: name, jobs_per_second, is_uqueue."""
    ordered = sorted(rows, key=lambda row: row["jobs_per_second"])
    with plt.rc_context(LOOK):
        figure, axes = plt.subplots(figsize=(9, 0.9 + 0.42 * len(ordered)), layout="constrained")
        speeds = [row["jobs_per_second"] for row in ordered]
        colours = [BLUE if row["is_uqueue"] else GREY for row in ordered]
        bars = axes.barh([row["name"] for row in ordered], speeds, color=colours)
        axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=4)
        _stress(axes, ordered)
        axes.set_xscale("log")
        axes.set_xlim(min(speeds) / 3, max(speeds) * 3)
        axes.set_xlabel("one-row jobs per second, one worker process, results stored (log scale; longer is better)")
        axes.grid(axis="y", visible=False)
        _plain(axes.xaxis, narrow=True)
        _save(figure, path)


def round_trip(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw p50 and p95 of the round trip, quickest on top; rows: name, p50_ms, p95_ms."""
    ordered = sorted(rows, key=lambda row: -row["p50_ms"])
    with plt.rc_context(LOOK):
        figure, axes = plt.subplots(figsize=(9, 1.2 + 0.5 * len(ordered)), layout="constrained")
        for shift, key, colour in ((0.2, "p50_ms", BLUE), (-0.2, "p95_ms", ORANGE)):
            places = [place + shift for place in range(len(ordered))]
            bars = axes.barh(places, [row[key] for row in ordered], height=0.38, color=colour, label=key.split("_")[0])
            axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axes.set_yticks(range(len(ordered)), [row["name"] for row in ordered])
        _stress(axes, ordered)
        axes.set_xlabel("milliseconds from submission to result, one job at a time (shorter is better)")
        axes.margins(x=0.1)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="upper right")
        _save(figure, path)


def growth(path: Path, service: Mapping[str, Any]) -> None:
    """Draw how cost grows with rows per job, queued jobs and worker processes."""
    with plt.rc_context(LOOK):
        figure, (rows, queued, processes) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
        found = service["rows_per_job"]
        _line(rows, [one["rows"] for one in found], [one["ms"] for one in found], "rows per job", "ms, end to end")
        rows.set_yscale("log")
        _plain(rows.yaxis, narrow=True)
        found = service["queued_jobs"]
        _line(queued, [one["jobs"] for one in found], [one["per_second"] for one in found], "jobs queued", "jobs/s")
        found = service["processes"]
        _line(
            processes,
            [one["processes"] for one in found],
            [one["per_second"] for one in found],
            "worker processes",
            "jobs/s",
            base=2,
        )
        for axes in (queued, processes):
            axes.set_ylim(0, 1.15 * max(axes.lines[0].get_ydata()))
            axes.yaxis.set_major_formatter(THOUSANDS)
        _save(figure, path)


def engines(path: Path, found: Mapping[str, Any]) -> None:
    """Draw rows per second against rows per call, for every engine and the per-row loop."""
    with plt.rc_context(LOOK):
        figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
        for (network, timings), line in zip(found["networks"].items(), ("-", ":"), strict=False):
            for engine, colour, marker in (("fused", BLUE, "o"), ("numpy", ORANGE, "s")):
                sizes, speeds = [one["n"] for one in timings["rows"]], [one[engine] for one in timings["rows"]]
                label = f"{engine} engine, {network}"
                axes.plot(sizes, speeds, color=colour, marker=marker, linestyle=line, label=label)
        axes.axhline(
            found["loop"]["rows_per_second"], color=GREEN, linestyle="--", label="Keras predict per row and pass"
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("rows per call (log scale)")
        axes.set_ylabel("rows per second (log scale)")
        _plain(axes.xaxis)
        _plain(axes.yaxis)
        axes.legend(loc="center right")
        _save(figure, path)


def _line(axes: Any, x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, *, base: int = 10) -> None:
    axes.plot(x, y, color=BLUE, marker="o")
    for place, value in zip(x, y, strict=True):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
        axes.annotate(text, (place, value), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log", base=base)
    axes.set_xticks(x)
    axes.set_xticklabels([f"{place:,}" for place in x], rotation=30)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(x=0.12, y=0.15)


def _stress(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set uqueue's own names in bold."""
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["is_uqueue"] else "normal")


def _plain(axis: Any, *, narrow: bool = False) -> None:
    """Write 10,000 and not 10^4, at 1, 2, 5, 10 ..."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axis.set_major_formatter(THOUSANDS)
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
