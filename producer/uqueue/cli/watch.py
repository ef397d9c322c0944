"""`uqueue models --watch`: who serves what, until Ctrl-C.

In a terminal a table that is drawn anew at every interval. Elsewhere a line, or with --json a document, for each
change; jobs served and ages change all the time and are none.
"""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from uqueue.cli.output import model_message, print_json_line, short, stdout
from uqueue.cli.signals import raised_once
from uqueue.client import Client
from uqueue.status import ModelStatus
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.messages import Acknowledgement

_STATE_STYLES = {"ready": "green", "stale": "yellow", "loading": "cyan", "unloaded": "dim"}
_CHANGES_ALWAYS = ("jobs_done", "busy_since")


@dataclass(frozen=True)
class Look:
    """What was seen at one moment, or last where `problem` says why nothing is seen now."""

    models: tuple[ModelStatus, ...] = ()
    problem: str | None = None
    at: float = field(default_factory=time.time)


class View(Protocol):
    """Something that looks can be shown on."""

    def show(self, look: Look) -> None: ...


def watch(*, interval_seconds: float, json: bool) -> None:
    """Show every model and process again and again; return at SIGINT, SIGTERM or SIGHUP."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        raised_once(),
        Client() as client,
        _view(interval_seconds, json) as view,
    ):
        look = Look()
        while not _reader_is_gone():
            look = _look(client, look)
            view.show(look)
            time.sleep(interval_seconds)


def _reader_is_gone() -> bool:
    """Whether nobody reads what is printed any more; the next line would find out, but may be long in coming."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _look(client: Client, before: Look) -> Look:
    try:
        return Look(tuple(client.models()))
    except ServiceUnreachable as error:
        return Look(before.models, f"{error.message} Tried again until it does.")


def _view(interval_seconds: float, json: bool) -> AbstractContextManager[View]:
    if json:
        return contextlib.nullcontext(Documents())
    return _screen(interval_seconds) if sys.stdout.isatty() else contextlib.nullcontext(Lines())


@contextlib.contextmanager
def _screen(interval_seconds: float) -> Iterator[View]:
    with Live(console=stdout(), auto_refresh=False) as live:
        yield Screen(live, interval_seconds)


class Screen:
    """A terminal."""

    def __init__(self, live: Live, interval_seconds: float) -> None:
        self._live = live
        self._interval_seconds = interval_seconds

    def show(self, look: Look) -> None:
        self._live.update(frame(look, self._interval_seconds), refresh=True)


class Lines:
    """A line for each change."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def show(self, look: Look) -> None:
        now = facts(look)
        gone = {name: "gone" for name in self._before if name not in now} if look.problem is None else {}
        for name, fact in {**gone, **now}.items():
            if self._before.get(name) != fact:
                sys.stdout.write(f"{_moment(look)} {name}: {fact}\n")
        sys.stdout.flush()
        self._before = now


class Documents:
    """A JSON document, in a line, for each change."""

    def __init__(self) -> None:
        self._before: Any = None

    def show(self, look: Look) -> None:
        models = [model_message(model) for model in look.models]
        now = (look.problem, [_lasting(model) for model in models])
        if now != self._before:
            print_json_line({"at": look.at, "problem": look.problem, "models": models})
        self._before = now


def facts(look: Look) -> dict[str, str]:
    """Return what Lines compares: names and what is so about them."""
    found = {"redis": look.problem or "answers"}
    for model in look.models:
        found[model.name] = _summary(model)
        for one in model.processes:
            reason = f" ({one.reason})" if one.reason else ""
            found[f"{_process(one)} {model.name}"] = f"{one.state}, serves {short(one.version)}{reason}"
    return found


def frame(look: Look, interval_seconds: float) -> Group:
    """Return what a terminal shows: a line about the watch, one per model, one per process."""
    lines = [Text(f"{_moment(look)}, every {interval_seconds:g} s; Ctrl-C leaves", style="dim")]
    lines += [Text(f"{model.name}: {_summary(model)}") for model in look.models]
    if not look.models and look.problem is None:
        lines.append(Text("No worker has reported yet."))
    if look.problem is not None:
        lines.append(Text(look.problem, style="bold red"))
    return Group(*lines, *([_processes(look)] if look.models else []))


def _processes(look: Look) -> Table:
    made = Table()
    made.add_column("process", overflow="fold")
    made.add_column("model", overflow="fold")
    made.add_column("version", no_wrap=True)
    made.add_column("age", justify="right", no_wrap=True)
    made.add_column("jobs", justify="right", no_wrap=True)
    made.add_column("state", no_wrap=True)
    made.add_column("reason", overflow="fold")
    for model in look.models:
        for one in model.processes:
            made.add_row(
                escape(_process(one)),
                escape(model.name),
                short(one.version),
                age(look.at - one.loaded_at) if one.loaded_at is not None else "–",
                str(one.jobs_done),
                f"[{_STATE_STYLES.get(one.state, 'red')}]{one.state}[/]",
                escape(one.reason or ""),
            )
    return made


def age(seconds: float) -> str:
    """Return a duration in its two largest units: 42s, 3m 05s, 2h 10m, 3d 4h."""
    whole = max(0, int(seconds))  # the worker's clock may be ahead of ours
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"


def _summary(model: ModelStatus) -> str:
    serving = sum(one.version is not None and one.version == model.wanted_version for one in model.processes)
    text = f"wanted is {short(model.wanted_version)}, {serving} of {len(model.processes)} processes serve it"
    if model.rejected_reason:
        version = f"{short(model.rejected_version)} " if model.rejected_version else ""
        text += f"; refused: {version}{model.rejected_reason}"
    return text


def _process(one: Acknowledgement) -> str:
    return f"{one.host}:{one.pid}"


def _moment(look: Look) -> str:
    return datetime.fromtimestamp(look.at).isoformat(sep=" ", timespec="seconds")


def _lasting(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model's status without what changes all the time."""
    processes = [
        {name: value for name, value in process.items() if name not in _CHANGES_ALWAYS}
        for process in model["processes"]
    ]
    return {**model, "processes": processes}
