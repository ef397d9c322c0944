"""Targeted samples against samples from elsewhere: paired seeds, one budget, one frozen test set per seed.

python benchmarks/learning.py [--seeds 10] [--cycles 6] [--test 6000] [--processes 2] [--noisy-seeds 6]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from uqueue_worker.learning.demo.arms import TITLES, Budget
from uqueue_worker.learning.demo.deployment import CLEAN, NOISY, Variant
from uqueue_worker.learning.demo.seeds import Played, compared, play_seed
from uqueue_worker.learning.report.data import Comparison
from uqueue_worker.learning.report.export import comparison_json
from uqueue_worker.learning.report.headline import verdict
from uqueue_worker.learning.report.paired import gains, mean_curve, needed

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
ARMS = ("targeted", "random_box", "random_deployment", "same", "errors_first")


def measure(seeds: Iterable[int], processes: int, variant: Variant, budget: Budget) -> list[Played]:
    """Return what every seed gave, seeds in parallel, each in a process of its own."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(play_seed, Budget(**{**asdict(budget), "seed": seed}), ARMS, variant) for seed in seeds]
        found = []
        for job in jobs:
            found.append(job.result())
            print(f"seed {found[-1].seed}: {found[-1].seconds:.0f} s", flush=True)
    return found


def played(seeds: Sequence[int], options: argparse.Namespace, variant: Variant) -> dict[str, Any]:
    budget = Budget(0, options.cycles, options.samples, options.start, options.pool, options.test)
    started = time.monotonic()
    found = measure(seeds, options.processes, variant, budget)
    comparison = compared(found, budget.samples_per_cycle)
    return {
        "variant": asdict(variant),
        "budget": {name: value for name, value in asdict(budget).items() if name != "seed"},
        "seconds": round(time.monotonic() - started, 1),
        "promotions": {one.seed: one.promoted for one in found},
        **comparison_json(comparison),
    }


def comparison_of(found: dict[str, Any]) -> Comparison:
    """Return the comparison that a result holds."""
    from uqueue_worker.learning.report.data import Arm

    arms = tuple(Arm(name, arm["title"], tuple(map(tuple, arm["curves"]))) for name, arm in found["arms"].items())
    reference = tuple(found["reference"])
    return Comparison(found["metric"], tuple(found["seeds"]), found["samples_per_cycle"], arms, reference)


def page(results: dict[str, Any]) -> str:
    """Return the results as a page of Markdown."""
    lines = ["# Active learning: targeted samples against others", "", "Made by `benchmarks/learning.py`.", ""]
    for title, found in results["variants"].items():
        lines += _section(title, found)
    return "\n".join(lines) + "\n"


def _section(title: str, found: dict[str, Any]) -> list[str]:
    comparison, budget = comparison_of(found), found["budget"]
    last, middle = comparison.cycles, min(2, comparison.cycles)
    differences, samples = gains(comparison), needed(comparison)
    lines = [
        f"## {title.capitalize()}",
        "",
        f"{len(comparison.seeds)} paired seeds, {budget['start_samples']} samples to start with, a pool of "
        f"{budget['pool_samples']}, a test set of {budget['test_samples']}, {budget['cycles']} cycles of "
        f"{budget['samples_per_cycle']} samples; sensors' noise × {found['variant']['noise_scale']:g}, events of "
        f"strength {found['variant']['weakest']:g} to 1. Macro F1 on the test set; {found['seconds']:.0f} s.",
        "",
        f"| policy | start | {middle} cycles | {last} cycles | targeted minus it | samples that targeted takes |",
        "|---|---|---|---|---|---|",
    ]
    for arm in comparison.arms:
        mean = mean_curve(arm.curves)
        difference, reach = differences.get(arm.name), samples.get(arm.name)
        told = verdict(difference) if difference else "–"
        needs = "–" if difference is None else ("never" if reach is None else f"{reach:.0f}")
        lines.append(f"| {arm.title} | {mean[0]:.4f} | {mean[middle]:.4f} | {mean[last]:.4f} | {told} | {needs} |")
    level = sum(comparison.reference) / len(comparison.reference)
    lines += ["", f"Training on the start set and the whole pool gives {level:.4f}.", ""]
    return lines


def draw(path: Path, results: dict[str, Any]) -> None:
    """Write the picture: a panel per variant, means and the lowest and highest seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(results["variants"]), 4.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(results["variants"]), squeeze=False)[0]
    for panel, (title, found) in zip(panels, results["variants"].items(), strict=True):
        comparison = comparison_of(found)
        steps = [cycle * comparison.samples_per_cycle for cycle in range(comparison.cycles + 1)]
        for arm, style in zip(comparison.arms, ("-", "--", ":", "-.", (0, (1, 1))), strict=True):
            low, high = ([fold(values) for values in zip(*arm.curves, strict=True)] for fold in (min, max))
            (line,) = panel.plot(steps, mean_curve(arm.curves), linestyle=style, label=TITLES[arm.name], linewidth=2)
            if arm.name in ("targeted", "random_deployment"):
                panel.fill_between(steps, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
        level = sum(comparison.reference) / len(comparison.reference)
        panel.axhline(level, color="black", linewidth=0.8, linestyle=(0, (1, 4)), label="start set and whole pool")
        panel.set_title(f"{title}, {len(comparison.seeds)} paired seeds")
        panel.set_xlabel("samples added")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("macro F1 on the frozen test set")
    panels[0].legend(frameon=False, fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--noisy-seeds", type=int, default=6)
    options.add_argument("--cycles", type=int, default=6)
    options.add_argument("--samples", type=int, default=48, help="samples per cycle")
    options.add_argument("--start", type=int, default=500)
    options.add_argument("--pool", type=int, default=1200)
    options.add_argument("--test", type=int, default=6000)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--folder", type=Path, default=RESULTS)
    given = options.parse_args()
    results = {"variants": {"clean": played(range(given.seeds), given, CLEAN)}}
    if given.noisy_seeds:
        results["variants"]["noisy"] = played(range(given.noisy_seeds), given, NOISY)
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "learning.json").write_text(json.dumps(results, indent=1) + "\n")
    (given.folder / "learning.md").write_text(page(results))
    draw(given.folder / "learning.png", results)
    print(page(results))


if __name__ == "__main__":
    main()
