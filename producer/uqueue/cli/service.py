"""Commands that run things: up, demo, sample-workspace, doctor."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from uqueue.cli import demo as demo_steps
from uqueue.cli import doctor as diagnosis
from uqueue.cli import up as up_steps
from uqueue.cli.failures import UsageProblem
from uqueue.cli.output import print_json, stdout
from uqueue_config.settings import Settings

#: What the worker cannot do without, and what training the sample takes.
WORKER_MODULES = ("h5py", "scipy", "structlog")
TRAINING_MODULES = (*WORKER_MODULES, "tensorflow", "keras")
_MARKS = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def up(
    workspace: Annotated[Path | None, typer.Option(help="Folder with models/ and state/.")] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="URL", help="s3://bucket/prefix, or models:/name@alias in MLflow, instead of a folder."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core unless set.")] = None,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Do not start Flower.")] = False,
    no_beat: Annotated[bool, typer.Option("--no-beat", help="Do not look for new artifacts.")] = False,
) -> None:
    """Run worker, beat and Flower here, with an embedded Redis unless UQUEUE_BROKER_URL is set. Ctrl-C stops all.

    --workspace and --source go before UQUEUE_WORKSPACE_ROOT and UQUEUE_ARTIFACT_SOURCE.
    """
    require("worker", *WORKER_MODULES, *(() if no_flower else ("flower",)))
    if workspace is not None and source is not None:
        raise UsageProblem("--workspace and --source: give one of them")
    given: dict[str, Any] = {} if concurrency is None else {"concurrency": concurrency}
    if workspace is not None:
        given |= {"workspace_root": workspace.resolve(), "artifact_source": None}
    if source is not None:
        given |= {"artifact_source": source}
    settings = Settings.load(**given)
    require_for(settings.artifact_source)
    _leave(up_steps.run(settings, beat=not no_beat, flower=not no_flower))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with the models, rows and logs.")] = False,
) -> None:
    """Train a small model, serve it, replace it under load, and measure the intervals' coverage. About two minutes."""
    require("demo", *TRAINING_MODULES)
    _leave(demo_steps.run(keep=keep))


def sample_workspace(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed trains another model.")] = None,
) -> None:
    """Train and calibrate a small model, as a training run leaves it, with rows to try it on."""
    require("demo", *TRAINING_MODULES)
    arguments = ["make", str(folder), *([] if seed is None else ["--seed", str(seed)])]
    _leave(subprocess.run([sys.executable, "-m", "uqueue_worker.sample", *arguments], check=False).returncode)


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Check settings, Redis, workers, models, queues, workspace and Flower; say what to do."""
    findings, code = diagnosis.examine()
    if json:
        print_json([finding.message() for finding in findings])
    else:
        console = stdout()
        for one in findings:
            console.print(f"{_MARKS[one.level]} [bold]{escape(one.check)}[/]: {escape(one.found)}", soft_wrap=True)
            if one.advice:
                console.print(f"     → {escape(one.advice)}", soft_wrap=True)
    _leave(code)


COMMANDS: dict[str, Callable[..., None]] = {
    "up": up,
    "demo": demo,
    "sample-workspace": sample_workspace,
    "doctor": doctor,
}


def require(extra: str, *modules: str) -> None:
    """Raise UsageProblem naming the extra to install when one of its modules is not there."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UsageProblem(f'This needs {", ".join(missing)}, not installed here: pip install "uqueue[{extra}]"')


def require_for(source: str | None) -> None:
    """Raise UsageProblem where this source takes an extra that is not installed."""
    if (source or "").startswith("s3:"):
        require("worker,s3", "boto3")
    if (source or "").startswith("models:"):
        require("worker,mlflow", "mlflow")


def _leave(code: int) -> None:
    if code:
        raise typer.Exit(code)
