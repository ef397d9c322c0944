"""`uqueue up`: worker, beat and Flower under one supervisor, on a given or an embedded Redis."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import SecretStr
from rich.markup import escape
from rich.panel import Panel

from uqueue.cli.failures import FAILED, OK
from uqueue.cli.output import complain, say, short, stderr, stdout
from uqueue.cli.signals import Interruptions, counted
from uqueue.client import Client
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue.local import (
    beat_service,
    child_environment,
    flower_service,
    process_count,
    wait_for_worker,
    worker_service,
)
from uqueue.supervisor import Echo, Service, Supervisor
from uqueue_config.connections import connect, translated
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.messages import Acknowledgement
from uqueue_config.settings import Settings

LAST_LINES = 15
_COLOURS = {"worker": "cyan", "beat": "magenta", "flower": "yellow"}


def run(settings: Settings, *, beat: bool, flower: bool) -> int:
    """Run everything until Ctrl-C, SIGTERM or the end of one of the processes; return the exit code."""
    with counted() as interruptions, _redis(settings) as (complete, redis), Supervisor() as supervisor:
        environment = child_environment(complete, os.environ)
        echo = prefixed()
        worker = supervisor.start(worker_service(complete, environment, echo=echo))
        if beat:
            supervisor.start(beat_service(environment, echo=echo))
        if flower:
            supervisor.start(flower_service(environment, echo=echo))
        found = _wait(worker, complete, interruptions)
        if not interruptions.stopping() and supervisor.dead() is None:
            _show(complete, redis, found, flower=flower)
        dead = supervisor.watch(interruptions.stopping)
        if dead is None:
            say("Stopping: running jobs may finish. Ctrl-C again is quicker.")
        else:
            _complain_about(dead)
        supervisor.stop(interruptions.hurry)
    return OK if dead is None else FAILED


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[tuple[Settings, EmbeddedRedis | None]]:
    """Give settings with a Redis that answers: the one configured, or an embedded one for as long as the block runs."""
    update: dict[str, object] = {} if "log_format" in settings.model_fields_set else {"log_format": "console"}
    if "broker_url" in settings.model_fields_set:
        for url in {settings.broker, settings.result_store}:
            with translated(url), connect(url) as connection:
                connection.ping()
        yield settings.model_copy(update=update), None
        return
    with tempfile.TemporaryDirectory(prefix="uqueue-up-") as folder, embedded_redis(Path(folder)) as redis:
        if redis.warning:
            say(f"warning: {redis.warning}")
        yield settings.model_copy(update={**update, "broker_url": SecretStr(redis.url)}), redis


def embedded_redis(folder: Path) -> EmbeddedRedis:
    """Start a Redis that other users of this computer cannot enter, where the kind at hand knows passwords."""
    try:
        return start_redis(folder, password=secrets.token_urlsafe(12))
    except ServiceUnreachable:
        return start_redis(folder)


def prefixed() -> Echo:
    """Return what prints a process's lines on stderr behind its name."""
    console = stderr()
    printing = threading.Lock()

    def echo(name: str, line: str) -> None:
        with printing:
            colour = _COLOURS.get(name, "white")
            console.print(f"[{colour}]{name:>7}[/] │ {escape(line)}", soft_wrap=True)

    return echo


def _wait(worker: Service, settings: Settings, interruptions: Interruptions) -> Sequence[Acknowledgement]:
    seconds = settings.model_load_seconds.total_seconds()
    with Client(settings) as client:
        return wait_for_worker(client, worker, process_count(settings), seconds, interruptions.stopping)


def _show(settings: Settings, redis: EmbeddedRedis | None, found: Sequence[Acknowledgement], *, flower: bool) -> None:
    serving = [process for process in found if process.version]
    lines = [_models_line(serving, process_count(settings)) if serving else _no_model(settings, found)]
    if redis is not None:
        lines.append(f"redis    {redis.kind}, embedded; its data goes when it stops. In another shell:")
        lines.append(f"         export UQUEUE_BROKER_URL={redis.url}")
    if flower:
        lines.append(f"flower   http://{settings.flower_address}:{settings.flower_port}")
    lines.append("try      uqueue submit rows.csv --wait      uqueue models      uqueue doctor")
    title = "uqueue is ready" if serving else "uqueue is up, without a model"
    stdout().print(Panel("\n".join(escape(line) for line in lines), title=title, title_align="left", expand=False))
    sys.stdout.flush()


def _models_line(serving: Sequence[Acknowledgement], processes: int) -> str:
    kinds = Counter((one.model, short(one.version), one.engine, one.forward_mode) for one in serving)
    told = (f"{name} {version} ({engine}, {mode}) on {count}" for (name, version, engine, mode), count in kinds.items())
    return f"model    {'; '.join(told)} of {processes} processes"


def _no_model(settings: Settings, found: Sequence[Acknowledgement]) -> str:
    reason = next((process.reason for process in found if process.reason), "no process has reported yet; see its log")
    again = f"It looks again every {settings.poll_seconds.total_seconds():g} s." if found else ""
    return f"model    none: {reason} {again}"


def _complain_about(dead: Service) -> None:
    complain(f"{dead.name} ended by itself with code {dead.returncode}; the rest is being stopped. Its last lines:")
    dead.wait_for_output()
    for line in list(dead.recent)[-LAST_LINES:]:
        say(f"  {line}")
    if dead.name == "flower":
        say("--no-flower does without it; UQUEUE_FLOWER_PORT moves it.")
