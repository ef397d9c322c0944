"""`uqueue learn run --local`: a whole run in this process, its records in memory, its files and report in a folder.

python -m uqueue_worker.learning.local_run [--config FILE] [--output DIR] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from uqueue_config.errors import SettingsError, UqueueError
from uqueue_config.learning.answers import RunDetails
from uqueue_config.learning.errors import RunConfigInvalid
from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_config.learning.settings import LearningSettings
from uqueue_worker.learning.crafting.levers import focus_parameter
from uqueue_worker.learning.engine import (
    Engine,
    InProcess,
    InterfaceEvaluator,
    MemoryRunStore,
    local_interfaces,
    run_to_end,
)
from uqueue_worker.learning.output_folder import output_folder
from uqueue_worker.learning.report import render_page, terminal_summary
from uqueue_worker.learning.reporting import report_data
from uqueue_worker.learning.repository import MemoryScenarioRepository
from uqueue_worker.learning.subject import crafter_of, load_subject

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def run_here(
    changes: Mapping[str, Any],
    folder: Path,
    settings: LearningSettings,
    watch: Callable[[RunRecord], None] | None = None,
) -> tuple[Engine, RunRecord]:
    """Run the worker's subject to the end and return the engine with the run; suggestions are applied unasked.

    `changes` are values of the run's configuration. Raises RunConfigInvalid, SettingsError.
    """
    subject = load_subject(settings.subject)
    config = RunConfig.read({**subject.run_config(settings).model_dump(), "auto_apply": True, **changes})
    if not config.auto_apply:
        raise RunConfigInvalid(reason="auto_apply: a run in this process has nobody who could approve its suggestions")
    subject.check(config)
    models = folder / "models"
    repository = MemoryScenarioRepository(crafter=crafter_of(settings, subject), focus_parameter=focus_parameter)
    evaluator = InterfaceEvaluator(local_interfaces(models, subject.model, [folder]))
    workshop = subject.workshop(repository, evaluator, models=models, root=folder / "runs")
    engine = Engine(MemoryRunStore(), workshop, InProcess())
    return engine, run_to_end(engine, engine.create(config).run_id, watch=watch)


def main(arguments: list[str] | None = None) -> int:
    """Run, write the report, print how it went; returns the exit code of the command line."""
    parser = argparse.ArgumentParser(prog="uqueue learn run --local", description="A run in this process.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML or JSON with values of its configuration")
    parser.add_argument("--output", type=Path, default=Path("learning-run"), metavar="DIR", help="folder of its files")
    parser.add_argument("--json", action="store_true", help="print run and cycles as one JSON document")
    given = parser.parse_args(arguments)
    _log_warnings_only()
    try:
        changes = _values(given.config) if given.config is not None else {}
        folder = output_folder(given.output)
        engine, run = run_here(changes, folder.resolve(), LearningSettings.load(), _tell)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SettingsError, RunConfigInvalid) as error:
        return _complain(error.message, USAGE)
    except UqueueError as error:
        return _complain(error.message, FAILED)
    data = report_data(engine.store, engine.workshop.repository, run.run_id)
    page = given.output / "report.html"
    page.write_text(render_page(data), encoding="utf-8")
    if given.json:
        details = RunDetails(run=run, cycles=data.cycles)
        sys.stdout.write(json.dumps(details.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")
    else:
        sys.stdout.write(terminal_summary(data))
    sys.stderr.write(f"report: {page}\n")
    return OK if run.status == "completed" else FAILED


def _values(path: Path) -> dict[str, Any]:
    """Return the values in a file. Raises RunConfigInvalid."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise RunConfigInvalid(reason=f"{path} cannot be read ({str(error)[:200]})") from None
    if not isinstance(found, dict):
        raise RunConfigInvalid(reason=f"{path} holds no names and values")
    return found


def _tell(run: RunRecord) -> None:
    value = run.feedback.metrics.get(run.config.target_metric) if run.feedback else None
    metric = "" if value is None else f", {run.config.target_metric} {value:.4f}"
    sys.stderr.write(f"{run.status}: cycle {run.cycle + 1} of at most {run.config.max_cycles}, {run.state}{metric}\n")


def _log_warnings_only() -> None:
    """The watcher says on stderr how it goes; stdout is for the result."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
