"""Commands about models: who serves what, and a look for new artifacts now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from uqueue.cli.failures import FAILED
from uqueue.cli.output import complain, model_message, models_table, print_json, say, short, stdout
from uqueue.cli.watch import watch as watch_models
from uqueue.client import Client
from uqueue_config.names import DEFAULT_MODEL

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def models(
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Show it until Ctrl-C: a live table, or a line for each change into a file or pipe."
        ),
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="With --watch, look every so many seconds.")] = 1.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; with --watch one, in a line, for each change.")
    ] = False,
) -> None:
    """Show every model, the version wanted, and which process serves which."""
    if watch:
        watch_models(interval_seconds=interval, json=json)
        return
    with Client() as client:
        found = client.models()
    if json:
        print_json([model_message(model) for model in found])
    elif not found:
        say("No worker has reported yet. Start one with `uqueue up` or `celery -A uqueue_worker.app worker`.")
    else:
        stdout().print(models_table(found))
        for model in found:
            if model.rejected_reason:
                say(f"{model.name}: version {short(model.rejected_version)} was refused: {model.rejected_reason}")


def reload(
    model: Annotated[str, typer.Argument(help="The model to look for.")] = DEFAULT_MODEL,
    timeout: Annotated[float, typer.Option(min=0, help="Wait at most this many seconds.")] = 30.0,
    json: AsJson = False,
) -> None:
    """Look for new artifacts now, and wait until every process serves them."""
    with Client() as client:
        report = client.reload(model, timeout=timeout)
    poll, status = report.poll, report.model
    if json:
        print_json({"poll": poll.model_dump(), "model": model_message(status)})
    refused = poll.outcome in ("rejected", "missing")
    if refused:
        complain(f"{model}: {poll.outcome}: {poll.reason or 'no reason was given'}")
    elif not status.converged:
        complain(f"{model}: not every process serves {short(status.wanted_version)} after {timeout:g} s")
    if not json:
        say(f"{model}: {_outcome(poll.outcome, poll.previous, poll.version)}")
        stdout().print(models_table([status]))
    if refused or not status.converged:
        raise typer.Exit(FAILED)


COMMANDS: dict[str, Callable[..., None]] = {"models": models, "reload": reload}


def _outcome(outcome: str, previous: str | None, version: str | None) -> str:
    match outcome:
        case "moved":
            return f"{short(previous)} → {short(version)}"
        case "unchanged":
            return "nothing new"
        case "elsewhere" | "overtaken":
            return "another process looked at the same time"
    return f"{short(previous)} keeps serving"
