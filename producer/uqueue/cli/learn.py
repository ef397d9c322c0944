"""`uqueue learn`: active learning. The learning worker does the work; these commands ask it, or start a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uqueue.cli.failures import FAILED, INTERRUPTED, UsageProblem
from uqueue.cli.learn_tables import run_line, runs_table, show_feedback, show_run, spots_table, suggestions_table
from uqueue.cli.output import print_json, say, stdout
from uqueue.cli.service import WORKER_MODULES, require
from uqueue.cli.signals import raised_once
from uqueue.client import Client
from uqueue_config.interrupts import signals_later

if TYPE_CHECKING:
    from uqueue.learning import Learning
    from uqueue_config.learning.answers import RunDetails

HELP = "Active learning: find where a model is weak, make samples aimed there, train again, prove it."
#: What a process needs that does the work itself.
LEARNING_MODULES = (*WORKER_MODULES, "fastavro", "sklearn")
#: What is started for the commands that need the worker's code, which is never imported here.
MODULE_OF = {
    "local": "uqueue_worker.learning.local_run",
    "repository": "uqueue_worker.learning.repository",
    "demo": "uqueue_worker.learning.demo",
}
#: A larger configuration is none.
MAX_CONFIG_BYTES = 1024 * 1024
#: How long a process that was interrupted may clean up.
CLEAN_UP_SECONDS = 30.0

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunId = Annotated[str, typer.Argument(metavar="ID", help="The run.")]
SuggestionId = Annotated[str, typer.Argument(metavar="SUGGESTION", help="The suggestion, sugg_….")]
Cycle = Annotated[int | None, typer.Option(min=0, help="Of this cycle; the first is 0.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML or JSON with values of the run's configuration.")
]


def run(
    config: Config = None,
    local: Annotated[
        bool, typer.Option("--local", help="Do all of it here, in one process: without worker, Redis and database.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="With --local, the folder of its files.")
    ] = None,
    continues: Annotated[
        str | None, typer.Option("--continue", metavar="RUN", help="Go on where a run ended, with a new pool.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; Ctrl-C leaves it running.")] = False,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key gives the same run.")] = None,
    json: AsJson = False,
) -> None:
    """Start a run, and print its id."""
    if local:
        if key is not None:
            raise UsageProblem("--local and --key: a run in memory has no other with the same key")
        if continues is not None:
            raise UsageProblem("--local and --continue: a run in memory has no other to go on with")
        given = {"--config": config, "--output": output}
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        _process("local", *options, *(["--json"] if json else []))
        return
    if output is not None:
        raise UsageProblem("--output: it goes with --local; `uqueue learn report` writes the report of other runs")
    configuration = read_configuration(config) if config is not None else {}
    if continues is not None:
        if configuration.get("continues", continues) != continues:
            raise UsageProblem(f"--continue: {config} names another run")
        configuration["continues"] = continues
    with Client() as client:
        started = client.learning.start_run(configuration, idempotency_key=key)
        if not started.created:
            say(f"The key {key} had started this run before.")
        if wait:
            _wait(client.learning, started.run.run_id, json=json)
        elif json:
            print_json(started.model_dump(mode="json"))
        else:
            typer.echo(started.run.run_id)


def list_runs(
    status: Annotated[
        str | None,
        typer.Option(help="pending, running, waiting, cancelling, cancelled, completed or failed runs only."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where another list ended.")] = None,
    json: AsJson = False,
) -> None:
    """List runs, the latest first."""
    with Client() as client:
        found = client.learning.runs(status=status, limit=limit, cursor=cursor)  # type: ignore[arg-type]  # it checks
    if json:
        print_json(found.model_dump(mode="json")["runs"])
    elif not found.runs:
        say("There are no runs. Start one with `uqueue learn run`.")
    else:
        stdout().print(runs_table(found))
    if found.next_cursor:
        say(f"There are more: --cursor {found.next_cursor}")


def status(
    run_id: RunId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; Ctrl-C leaves it running.")] = False,
    json: AsJson = False,
) -> None:
    """Show where a run stands, and what each cycle did."""
    with Client() as client:
        if wait:
            _wait(client.learning, run_id, json=json)
        else:
            _show(client.learning.run(run_id), json=json)


def spots(run_id: RunId, cycle: Cycle = None, json: AsJson = False) -> None:
    """Show the weak spots of a run's latest cycle."""
    with Client() as client:
        found = client.learning.weak_spots(run_id, cycle=cycle)
    if json:
        print_json(found.model_dump(mode="json"))
    elif not found.spots:
        say("No weak spots are known yet.")
    else:
        say(f"weak spots of cycle {found.cycle}")
        stdout().print(spots_table(found))


def suggestions(
    run_id: RunId,
    cycle: Cycle = None,
    state: Annotated[str | None, typer.Option(help="proposed, approved, rejected or applied ones only.")] = None,
    json: AsJson = False,
) -> None:
    """Show what a run suggests to do about its weak spots."""
    with Client() as client:
        found = client.learning.suggestions(run_id, cycle=cycle, state=state)  # type: ignore[arg-type]  # it checks
    if json:
        print_json(found.model_dump(mode="json"))
    elif not found.suggestions:
        say("There are no suggestions.")
    else:
        stdout().print(suggestions_table(found))


def report(
    run_id: RunId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here; .html, .json or .csv.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="html, json or csv; by the file's ending unless given, else html.")
    ] = None,
) -> None:
    """Write the report of a run: one HTML page that needs no network, or its data as JSON or CSV."""
    ending = output.suffix.lstrip(".").lower() if output is not None else ""
    wanted = format or (ending if ending in ("html", "json", "csv") else "html")
    with Client() as client:
        made = client.learning.report(run_id, wanted)  # type: ignore[arg-type]  # it checks
    if output is None:
        sys.stdout.write(made.content)
        sys.stdout.flush()
        return
    try:
        output.write_text(made.content, encoding="utf-8", newline="")
    except OSError as error:
        raise UsageProblem(f"--output: {output} cannot be written ({error.strerror})") from None
    say(f"{output}: {output.stat().st_size} bytes")


def cancel(run_id: RunId, json: AsJson = False) -> None:
    """End a run at its next step."""
    with Client() as client:
        _show(client.learning.cancel(run_id), json=json)


def resume(run_id: RunId, json: AsJson = False) -> None:
    """Let a run go on that failed or was cancelled."""
    with Client() as client:
        _show(client.learning.resume(run_id), json=json)


def approve(suggestion_id: SuggestionId, json: AsJson = False) -> None:
    """Have a suggestion applied."""
    with Client() as client:
        _show_changed(client.learning.approve(suggestion_id), json=json)


def reject(suggestion_id: SuggestionId, json: AsJson = False) -> None:
    """Have a suggestion dropped, with what was made for it."""
    with Client() as client:
        _show_changed(client.learning.reject(suggestion_id), json=json)


def map_suggestion(
    suggestion_id: SuggestionId,
    mapping: Annotated[
        list[str],
        typer.Argument(metavar="FEATURE=PARAMETER", help="A feature of it, and the parameter that moves the feature."),
    ],
    json: AsJson = False,
) -> None:
    """Say which parameter of its scenario moves a feature for which a suggestion knows none."""
    with Client() as client:
        _show_changed(client.learning.map_suggestion(suggestion_id, _pairs(mapping)), json=json)


def feedback(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Avro file as the learning worker sees it.")],
    version: Annotated[
        str | None, typer.Option(help="Version or alias of the model; the one in service unless set.")
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option("--run", metavar="ID", help="Labelled samples from the field: this run goes after its errors."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Wait at most this many seconds.")] = 600.0,
    json: AsJson = False,
) -> None:
    """Evaluate a model once: metrics, weak samples, explanations. With --run, give samples to a run instead."""
    if run_id is not None:
        if version is not None:
            raise UsageProblem("--run and --version: a run evaluates the version that it has in service")
        _give(run_id, dataset, timeout, json=json)
        return
    with Client() as client:
        found = client.learning.feedback(dataset, model_version=version, timeout=timeout)
    if json:
        print_json(found.to_message())
    else:
        show_feedback(found)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Bring the database of the scenario repository up to date."""
    require("learning", "psycopg")
    _process("repository", "migrate", *(["--dry-run"] if dry_run else []))


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds and cycles: less than a minute.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the report goes.")] = None,
) -> None:
    """Find the blind spots of a fire-precursor classifier and close them, beside random sampling."""
    given = [f"--output={output}"] if output is not None else []
    _process("demo", *(["--quick"] if quick else []), *given)


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "list": list_runs,
    "status": status,
    "spots": spots,
    "suggestions": suggestions,
    "report": report,
    "cancel": cancel,
    "resume": resume,
    "approve": approve,
    "reject": reject,
    "map": map_suggestion,
    "feedback": feedback,
    "migrate": migrate,
    "demo": demo,
}


def read_configuration(path: Path) -> dict[str, Any]:
    """Return the values in a TOML or JSON file. Raises UsageProblem."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise UsageProblem(f"--config: {path} has more than {MAX_CONFIG_BYTES} bytes")
        text = data.decode()
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageProblem(f"--config: {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise UsageProblem(f"--config: {path} is not {kind} ({str(error)[:200]})") from None
    if not isinstance(found, dict):
        raise UsageProblem(f"--config: {path} holds no names and values")
    return found


def _pairs(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        feature, _, parameter = one.rpartition("=")
        if not feature or not parameter or feature in found:
            raise UsageProblem(f"{one[:200]}: expected FEATURE=PARAMETER, each feature once")
        found[feature] = parameter
    return found


def _give(run_id: str, dataset: str, timeout: float, *, json: bool) -> None:
    with Client() as client:
        given = client.learning.add_field_samples(run_id, dataset, timeout=timeout)
    if json:
        print_json(given.model_dump(mode="json"))
    else:
        held = f"; it held {given.known} before" if given.known else ""
        say(f"Run {run_id} took {given.taken} samples{held}. They count from cycle {given.cycle} on.")


def _wait(learning: Learning, run_id: str, *, json: bool) -> None:
    """Follow a run to its end, a line for each change; exit 1 where it failed or was cancelled."""
    seen = ""

    def look(details: RunDetails) -> None:
        nonlocal seen
        line = run_line(details)
        if line != seen:
            say(line)
        seen = line

    try:
        with raised_once():
            details = learning.wait_for_run(run_id, on_look=look)
    except KeyboardInterrupt:
        say(f"The run goes on. `uqueue learn status {run_id}` shows it, `uqueue learn cancel {run_id}` ends it.")
        raise typer.Exit(INTERRUPTED) from None
    _show(details, json=json)
    if details.run.status in ("failed", "cancelled"):
        raise typer.Exit(FAILED)


def _show(details: RunDetails, *, json: bool) -> None:
    if json:
        print_json(details.model_dump(mode="json"))
    else:
        show_run(details)


def _show_changed(changed: Any, *, json: bool) -> None:
    if json:
        print_json(changed.model_dump(mode="json"))
    else:
        say(
            f"{changed.suggestion.suggestion_id} is {changed.suggestion.state}; run {changed.run_id} is "
            f"{changed.run_status}."
        )


def _process(name: str, *arguments: str) -> None:
    """Run one of the worker's modules; leave with its exit code.

    It has a session of its own, so that one Ctrl-C reaches it once and it can clean up.
    """
    require("worker,learning", *LEARNING_MODULES)
    child = None
    try:
        with raised_once():
            with signals_later():
                child = subprocess.Popen([sys.executable, "-m", MODULE_OF[name], *arguments], start_new_session=True)
            code = child.wait()
    except KeyboardInterrupt:
        if child is not None:
            _ended(child)
        raise typer.Exit(INTERRUPTED) from None
    if code:
        raise typer.Exit(code if code > 0 else FAILED)


def _ended(child: subprocess.Popen[bytes]) -> None:
    """Have a process clean up and end."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(CLEAN_UP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
