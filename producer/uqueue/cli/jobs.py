"""Commands about jobs: submit, status, result, cancel."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from uqueue.cli.classified import print_classification, print_classification_csv
from uqueue.cli.output import print_csv, print_json, print_pairs, print_prediction, say, stderr
from uqueue.cli.rows import Format, read_rows
from uqueue.client import Client, Job
from uqueue_config.answers import AnyAnswer
from uqueue_config.classification import Classification
from uqueue_config.errors import InputError, JobFailed, UqueueError
from uqueue_config.ledger import JobStatus
from uqueue_config.localization import Localization
from uqueue_config.names import DEFAULT_MODEL

PROGRESS_SECONDS = 0.2
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as `submit` printed it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, all rows.")]
EveryRow = Annotated[bool, typer.Option("--all", help="Show every row of a long result.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Wait at most this many seconds; for ever unless given.")]


def submit(
    rows: Annotated[str, typer.Argument(metavar="ROWS", help="A CSV, NPY or JSON file with rows, or - for stdin.")],
    model: Annotated[str, typer.Option(help="The model to ask.")] = DEFAULT_MODEL,
    format: Annotated[
        Format | None, typer.Option(help="The format of ROWS; told from its content unless given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes the passes repeatable.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and rows are the same job.")] = None,
    expires: Annotated[float | None, typer.Option(help="Drop the job if it has not started after so many s.")] = None,
    target_dim: Annotated[
        int | None, typer.Option(min=1, help="Refuse a model with another number of targets.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Which version answers: stable, canary, or one that `uqueue models` shows.")
    ] = None,
    sticky_key: Annotated[str | None, typer.Option(help="Jobs with one key go all to stable or all to canary.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and print it.")] = False,
    timeout: Timeout = None,
    json: AsJson = False,
    csv: AsCsv = False,
    all: EveryRow = False,
) -> None:
    """Submit a job; print its id, or with --wait its intervals."""
    features = read_rows(rows, format)
    with Client() as client:
        job = client.submit(
            features,
            model,
            seed=seed,
            idempotency_key=idempotency_key,
            expires=expires,
            target_dim=target_dim,
            version=model_version,
            sticky_key=sticky_key,
        )
        if wait:
            say(f"job {job.id}")
            _print_result(_awaited(client, job, timeout), json, csv, all)
        elif json:
            print_json({"id": job.id})
        else:
            typer.echo(job.id)


def status(id: Id, json: AsJson = False) -> None:
    """Show where a job stands."""
    with Client() as client:
        found = client.job(id).status()
    _print_status(found, json)


def result(id: Id, timeout: Timeout = None, json: AsJson = False, csv: AsCsv = False, all: EveryRow = False) -> None:
    """Wait for a job's end and print its intervals, its classes, or (as JSON) its positions."""
    with Client() as client:
        _print_result(_awaited(client, client.job(id), timeout), json, csv, all)


def cancel(id: Id, json: AsJson = False) -> None:
    """Cancel a job: at once while it is queued, at its next checkpoint while it runs."""
    with Client() as client:
        found = client.job(id).cancel()
    _print_status(found, json)


COMMANDS: dict[str, Callable[..., None]] = {"submit": submit, "status": status, "result": result, "cancel": cancel}


def status_message(found: JobStatus) -> dict[str, Any]:
    """Return a status as JSON: times as ISO 8601, the error as code, message and facts."""
    message = {name: getattr(found, name) for name in JobStatus.__dataclass_fields__}
    times = {name: value.isoformat() for name, value in message.items() if hasattr(value, "isoformat")}
    return {**message, **times, "error": found.error.to_wire() if found.error else None}


def _print_status(found: JobStatus, json: bool) -> None:
    message = status_message(found)
    if json:
        print_json(message)
        return
    progress = None if found.rows_total is None else f"{found.rows_done or 0} of {found.rows_total} rows"
    times = {name: message[name] for name in ("created_at", "started_at", "finished_at", "expires_at")}
    asked = "yes" if found.cancel_requested and not found.state.terminal else None
    facts = {"attempts": found.attempts, "model": found.model, "worker": found.worker, "progress": progress}
    error = found.error.message if found.error else None
    ending = {"cancel requested": asked, "error": error}
    print_pairs({"id": found.id, "state": found.state.value, **facts, **times, **ending}.items())


def _print_result(prediction: AnyAnswer, json: bool, csv: bool, every_row: bool) -> None:
    if json or isinstance(prediction, Localization):
        print_json(prediction.to_message())
    elif isinstance(prediction, Classification):
        if csv:
            print_classification_csv(prediction)
        else:
            print_classification(prediction, every_row=every_row)
    elif csv:
        print_csv(prediction)
    else:
        print_prediction(prediction, every_row=every_row)


def _awaited(client: Client, job: Job, timeout: float | None) -> AnyAnswer:
    with _progress(job):
        try:
            return job.result(timeout)
        except InputError as error:  # refused by the worker: a failed job, no longer wrong usage
            raise JobFailed(error.message, job_id=job.id, reason=error.message) from error


def _progress(job: Job) -> AbstractContextManager[None]:
    return _progress_bar(job) if sys.stderr.isatty() else contextlib.nullcontext()


@contextlib.contextmanager
def _progress_bar(job: Job) -> Iterator[None]:
    """Show on the terminal how far the job is, and nothing of it afterwards."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ended = threading.Event()
    with Progress(*columns, console=stderr(), transient=True) as progress:
        bar = progress.add_task("queued", total=None)

        def follow() -> None:
            while not ended.wait(PROGRESS_SECONDS):
                with contextlib.suppress(UqueueError):
                    at = job.status()
                    progress.update(bar, description=at.state.value, total=at.rows_total, completed=at.rows_done or 0)

        follower = threading.Thread(target=follow, name="progress", daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
