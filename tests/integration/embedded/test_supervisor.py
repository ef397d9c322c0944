"""Supervised processes: output, death, and stopping in order with rising force."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from builders.waiting import eventually
from uqueue.supervisor import Service, Supervisor

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
PARENT = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
SLEEPER = "import time; print('asleep', flush=True); time.sleep(60)"


def _python(name: str, code: str, **options: object) -> Service:
    return Service(name, [sys.executable, "-c", code], os.environ, **options)  # type: ignore[arg-type]


def test_output_is_kept_written_and_echoed(tmp_path: Path) -> None:
    echoed: list[tuple[str, str]] = []
    log_file = tmp_path / "log"
    service = _python(
        "talker",
        "import sys; print('out'); print('err', file=sys.stderr)",
        log_file=log_file,
        echo=lambda name, line: echoed.append((name, line)),
    )
    assert service.start().wait(10)
    service.stop()
    assert sorted(service.recent) == ["err", "out"]
    assert sorted(service.log_text().split()) == ["err", "out"]
    assert sorted(echoed) == [("talker", "err"), ("talker", "out")]
    assert service.returncode == 0


def test_watch_returns_the_one_that_died() -> None:
    with Supervisor() as supervisor:
        supervisor.start(_python("sleeper", SLEEPER))
        supervisor.start(_python("mortal", "raise SystemExit(3)"))
        dead = supervisor.watch(lambda: False)
        assert dead is supervisor.services["mortal"]
        assert dead.returncode == 3
        pid = supervisor.services["sleeper"].pid
    assert not psutil.pid_exists(pid)


def test_watch_ends_when_it_should() -> None:
    with Supervisor() as supervisor:
        supervisor.start(_python("sleeper", SLEEPER))
        assert supervisor.watch(lambda: True) is None


def test_stopping_rises_to_sigkill_and_stays_bounded() -> None:
    service = _python("deaf", DEAF, stop_steps=((signal.SIGTERM, 0.3),)).start()
    eventually(lambda: "deaf" in service.recent, "the process is deaf")
    started = time.monotonic()
    service.stop()
    assert service.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 5


def test_hurry_shortens_the_wait() -> None:
    service = _python("deaf", DEAF, stop_steps=((signal.SIGTERM, 60.0),)).start()
    eventually(lambda: "deaf" in service.recent, "the process is deaf")
    started = time.monotonic()
    service.stop(lambda: True)
    assert time.monotonic() - started < 10


def test_children_of_a_killed_process_are_not_left_behind() -> None:
    service = _python("parent", PARENT).start()
    eventually(lambda: service.recent, "the child's pid is printed")
    child = psutil.Process(int(service.recent[0]))
    service.send(signal.SIGKILL)
    service.stop()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child is gone")


def test_a_second_start_under_a_name_ends_the_first() -> None:
    with Supervisor() as supervisor:
        first = supervisor.start(_python("sleeper", SLEEPER)).pid
        supervisor.start(_python("sleeper", SLEEPER))
        assert not psutil.pid_exists(first)
