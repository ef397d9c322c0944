"""What demos share: headings, waiting for processes, and stopping with a sentence when one of them fails."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.markup import escape

from uqueue.cli.output import stdout
from uqueue.supervisor import Service, Supervisor


class DemoStopped(Exception):
    """A step did not work; the message says which, with what its process said last."""


def heading(title: str, why: str) -> None:
    """Print what comes next, and why."""
    stdout().print(f"\n[bold cyan]{escape(title)}[/]\n[dim]{escape(why)}[/]")


@contextlib.contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show on a terminal that something goes on."""
    with stdout().status(text) if sys.stdout.isatty() else contextlib.nullcontext():
        yield


def wait_until(supervisor: Supervisor, done: Callable[[], bool], seconds: float, what: str, *, but: Service) -> None:
    """Wait until `done()`; DemoStopped when a service other than `but` ends, or when it takes too long."""
    deadline = time.monotonic() + seconds
    while not done():
        ended = [one for one in supervisor.services.values() if one is not but and one.returncode]
        if ended:
            raise DemoStopped(last_words(ended[0]))
        if time.monotonic() > deadline:
            raise DemoStopped(f"{what} took more than {seconds:g} s. {last_words(but)}")
        time.sleep(0.1)


def last_words(service: Service) -> str:
    """Return how a service is, and the last lines it printed."""
    lines = "".join(f"\n  {line}" for line in list(service.recent)[-15:])
    state = "still runs" if service.returncode is None else f"ended with code {service.returncode}"
    return f"{service.name} {state}. Its last lines:{lines}"
