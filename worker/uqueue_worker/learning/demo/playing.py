"""The play: a run through the queue, the same in this computer's processes with other seeds and policies, a report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from uqueue_config.learning.answers import RunDetails
from uqueue_config.learning.runs import CYCLE_ENDED, CycleRecord
from uqueue_worker.learning.demo.arms import TITLES, Budget
from uqueue_worker.learning.demo.in_process import curve_of, run_config
from uqueue_worker.learning.demo.seeds import Played, compared, play_seed
from uqueue_worker.learning.demo.stage import DemoStopped, Stage, staged
from uqueue_worker.learning.engine.postgres_store import PostgresRunStore
from uqueue_worker.learning.output_folder import output_folder
from uqueue_worker.learning.report import (
    TARGETED,
    Comparison,
    ReportData,
    render_index,
    render_page,
    report_csv,
    report_json,
    terminal_summary,
)
from uqueue_worker.learning.reporting import report_data
from uqueue_worker.learning.repository import open_database, postgres_repository

_LONGEST_SECONDS = 900.0
_OTHERS = ("random_box", "random_deployment")


@dataclass(frozen=True)
class Script:
    """`seeds` are played for all policies; the first one's targeted run goes through the queue."""

    budget: Budget
    seeds: int
    command: str


FULL = Script(Budget(seed=0, cycles=5), seeds=4, command="uqueue learn demo")
QUICK = Script(
    Budget(seed=0, cycles=2, start_samples=300, pool_samples=300, test_samples=1000), 2, "uqueue learn demo --quick"
)


def play_demo(script: Script, output: Path) -> None:
    """Play, print what happens, and write report.html, report.json, report.csv and index.html to a folder.

    Raises DemoStopped where something does not work, SettingsError where the folder cannot be one.
    """
    started = time.monotonic()
    output_folder(output)
    say("A classifier has three blind spots: distant smouldering, corona in humid air, dense traffic.")
    with staged(say) as stage, _others(script) as others:
        details = _through_the_queue(stage, script)
        say("The other policies and seeds, from the same starts, in processes of this computer …")
        played = [_waited(one) for one in others]
        comparison = _comparison(script, details.cycles, played)
        data = _collected(stage, script, details.run.run_id, comparison)
    _write(output, data)
    print(terminal_summary(data))  # noqa: T201 - the demo's result
    say(f"{output / 'report.html'} shows all of it; report.json and report.csv hold the same.")
    say(f"Done in {time.monotonic() - started:.0f} s; every process was stopped.")


def say(words: str) -> None:
    """Print a line for people."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - people read it


@contextmanager
def _others(script: Script) -> Iterator[list[Future[Played]]]:
    """Begin with the other policies of every seed, and with the targeted one of all but the first."""
    budgets = [replace(script.budget, seed=script.budget.seed + number) for number in range(script.seeds)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield [
            pool.submit(play_seed, budget, _OTHERS if number == 0 else (TARGETED, *_OTHERS))
            for number, budget in enumerate(budgets)
        ]


def _through_the_queue(stage: Stage, script: Script) -> RunDetails:
    config = run_config(script.budget)
    started = stage.client.learning.start_run(config.model_dump(mode="json", exclude_defaults=True))
    say(f"Run {started.run.run_id}: {script.budget.cycles} cycles of {script.budget.samples_per_cycle} samples.")
    shown: set[int] = set()

    def look(details: RunDetails) -> None:
        stage.check()
        for cycle in details.cycles:
            if cycle.state in CYCLE_ENDED and cycle.cycle not in shown:
                shown.add(cycle.cycle)
                say(f"  cycle {cycle.cycle + 1}: {_told(cycle)}")

    details = stage.client.learning.wait_for_run(started.run.run_id, _LONGEST_SECONDS, on_look=look)
    if details.run.status != "completed" or not all(cycle.state == "completed" for cycle in details.cycles):
        failures = [one for cycle in details.cycles for one in cycle.failures]
        reason = failures[-1].message if failures else details.run.error
        raise DemoStopped(f"run {details.run.run_id} is {details.run.status}: {reason}")
    return details


def _told(cycle: CycleRecord) -> str:
    if cycle.test_after is None:
        return cycle.state
    value = cycle.test_after.metrics["macro_f1_score"]
    verdict = "promoted" if cycle.promoted else f"not promoted ({cycle.promotion_reason})"
    return f"{cycle.samples_generated} samples, {len(cycle.spot_ids)} weak spots, macro F1 {value:.4f}, {verdict}"


def _waited(other: Future[Played]) -> Played:
    played = other.result()
    finals = ", ".join(f"{TITLES[name]} {curve[-1]:.4f}" for name, curve in played.curves.items())
    say(f"  seed {played.seed}: {finals}")
    return played


def _comparison(script: Script, cycles: Sequence[CycleRecord], played: Sequence[Played]) -> Comparison:
    first = replace(played[0], curves={**played[0].curves, TARGETED: tuple(curve_of(cycles))})
    return compared([first, *played[1:]], script.budget.samples_per_cycle)


def _collected(stage: Stage, script: Script, run_id: str, comparison: Comparison) -> ReportData:
    with open_database(stage.postgres.dsn) as database:
        data = report_data(PostgresRunStore(database), postgres_repository(database), run_id)
    return replace(data, comparison=comparison, commands=(script.command,))


def _write(output: Path, data: ReportData) -> None:
    (output / "report.html").write_text(render_page(data), encoding="utf-8")
    (output / "report.json").write_text(json.dumps(report_json(data), indent=1, allow_nan=False) + "\n")
    (output / "report.csv").write_text(report_csv(data), encoding="utf-8")
    (output / "index.html").write_text(render_index([data.run], {data.run.run_id: "report.html"}), encoding="utf-8")
