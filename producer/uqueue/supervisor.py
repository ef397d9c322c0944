"""Child processes that belong together: start them, see when one dies, stop them in order, leave none behind.

Each runs in its own session, so that Ctrl-C in a terminal reaches only the supervising process, which then stops the
others in a good order. Processes are ended by their id and never by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from uqueue_config.interrupts import signals_later

Echo = Callable[[str, str], None]
#: A question asked again and again. Not an Event, which a signal handler must not set: it may hold the event's lock.
Asked = Callable[[], bool]
#: What to send, and how many seconds to wait for it to work. SIGKILL always follows.
StopSteps = Sequence[tuple[signal.Signals, float]]
TERMINATE: StopSteps = ((signal.SIGTERM, 5.0),)
KILL_SECONDS = 5.0
HURRIED_SECONDS = 1.0
_LOOK_SECONDS = 0.05


def never() -> bool:
    """Return False."""
    return False


class Service:
    """One child process and its output: kept (the last lines), written to `log_file`, handed line by line to `echo`."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        stop_steps: StopSteps = TERMINATE,
        log_file: Path | None = None,
        echo: Echo | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.stop_steps = stop_steps
        self.recent: deque[str] = deque(maxlen=200)
        self._log_file = log_file
        self._echo = echo
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> Self:
        """Start the process; its group and session are its own."""
        process = subprocess.Popen(
            self.argv,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process,), name=f"log-{self.name}", daemon=True)
        self._reader.start()
        return self

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._started().poll()

    def log_text(self) -> str:
        """Return the output so far: all of it with a log file, the last 200 lines without."""
        if self._log_file is not None:
            return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""
        return "\n".join(self.recent)

    def wait_for_output(self) -> None:
        """Wait until all output of an ended process has been read."""
        if self._reader is not None:
            self._reader.join(KILL_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process; does nothing when it has ended."""
        self._started().send_signal(number)

    def wait(self, seconds: float, hurry: Asked = never) -> bool:
        """Wait for the end, at most `seconds` (1 s from when `hurry()` holds); True when it has ended."""
        process = self._started()
        now = time.monotonic()
        deadline, hurried = now + seconds, False
        while process.poll() is None:
            now = time.monotonic()
            if not hurried and hurry():
                deadline, hurried = min(deadline, now + HURRIED_SECONDS), True
            if now >= deadline:
                return False
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
        return True

    def stop(self, hurry: Asked = never) -> None:
        """Go through the stop steps until the process has ended, and end what is left of its group."""
        if self._process is None:
            return
        for number, seconds in self.stop_steps:
            self.send(number)
            if self.wait(seconds, hurry):
                break
        # The group, because children outlive a main process that was killed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait(KILL_SECONDS)
        self.wait_for_output()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> None:
        with contextlib.ExitStack() as stack:
            output: Iterable[str] = stack.enter_context(process.stdout) if process.stdout else ()
            log = stack.enter_context(self._log_file.open("a")) if self._log_file else None
            for line in output:
                self.recent.append(line.rstrip("\n"))
                if log is not None:
                    log.write(line)
                    log.flush()
                if self._echo is not None:
                    self._echo(self.name, line.rstrip("\n"))


class Supervisor:
    """Services in the order of their start, which is also the order in which they are stopped."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}

    def start(self, service: Service) -> Service:
        """Start a service and keep it under its name; what was there under that name is ended first."""
        if service.name in self.services:
            self.services[service.name].stop()
        with signals_later():
            self.services[service.name] = service.start()
        return service

    def dead(self) -> Service | None:
        """Return the first service that has ended, None while all run."""
        return next((one for one in self.services.values() if one.returncode is not None), None)

    def watch(self, stopping: Asked) -> Service | None:
        """Wait until `stopping()` holds (None), or a service has ended by itself (that service)."""
        while not stopping():
            dead = self.dead()
            if dead is not None:
                return dead
            time.sleep(_LOOK_SECONDS)
        return None

    def stop(self, hurry: Asked = never) -> None:
        """Stop all, one after the other; quicker from when `hurry()` holds."""
        for service in self.services.values():
            service.stop(hurry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
