"""`uqueue models --watch` as people see it, in a terminal of its own, and as programs do, at the end of a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle, write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.embedded import start_redis

WATCH = [sys.executable, "-m", "uqueue", "models", "--watch", "--interval", "0.2"]
ROWS, COLUMNS = 24, 110


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(hidden=(4,)))
    return tmp_path / "workspace"


@pytest.fixture
def service(tmp_path: Path, workspace: Path) -> Iterator[RunningService]:
    env = {"UQUEUE_POLL_SECONDS": "0.3"}
    with running_service(tmp_path / "service", workspace=workspace, concurrency=2, env=env) as running:
        yield running


class Watch:
    """A running watch; `text` is all it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self.process = process
        self._output = output
        self._data = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def frame(self) -> str:
        """What the terminal shows: the last frame, without what moves the cursor and gives colours."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "\f", self.text)
        return re.sub(r"\x1b\[[0-9;]*m", "", plain).rstrip("\f\r\n").rpartition("\f")[2].replace("\r", "")

    def stopped(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # what a terminal answers after its last process has ended
            while data := os.read(self._output, 65_536):
                self._data += data


@contextmanager
def watching(service: RunningService, *arguments: str, terminal: bool = False) -> Iterator[Watch]:
    environment = {**service.environment, "TERM": "xterm-256color"}
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [*WATCH, *arguments],
        env=environment,
        stdin=theirs if terminal else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Watch(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def replace_pair(workspace: Path, number: int) -> None:
    write_workspace(workspace, model=mqnn_h5_bytes(seed=number, hidden=(4,)), q_hat=float(number))


def test_a_terminal_shows_who_serves_what_now(service: RunningService, workspace: Path) -> None:
    client = service.client
    first = str(client.model().wanted_version)
    pids = [process.pid for process in client.model().processes]
    with watching(service, terminal=True) as watch:
        eventually(lambda: watch.frame.count("ready") == 2, "both processes are shown")
        header = next(line for line in watch.frame.splitlines() if "process" in line and "reason" in line)
        assert re.findall(r"\w+", header) == ["process", "model", "version", "age", "jobs", "state", "reason"]
        assert f"mccp-uq: wanted is {first[:12]}, 2 of 2 processes serve it" in watch.frame
        assert all(f":{pid}" in watch.frame for pid in pids)

        client.submit([[0.0] * 8]).result(timeout=20)
        eventually(lambda: re.search(r"│ +1 │ ready", watch.frame), "the job is counted")
        replace_pair(workspace, 2)
        eventually(
            lambda: first[:12] not in watch.frame and watch.frame.count("ready") == 2, "the new version is shown"
        )
        second = str(client.model().wanted_version)
        assert watch.frame.count(second[:12]) == 3

        (workspace / "state/mccp-uq/mccp_state.pkl").write_bytes(b"not a pickle")
        eventually(lambda: "refused: " in watch.frame, "a refused candidate names its reason")
        assert watch.frame.count(second[:12]) == 3
        assert len(watch.frame.splitlines()) < ROWS
        print(f"\n{watch.frame}")
        assert watch.stopped(signal.SIGINT) == 0
    assert "Traceback" not in watch.text


def test_it_leaves_at_once_even_while_redis_says_nothing(service: RunningService) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with watching(service, terminal=True) as watch:
            eventually(lambda watch=watch: "ready" in watch.frame, "it runs")
            os.kill(service.redis.pid, signal.SIGSTOP)
            try:
                assert watch.stopped(number) == 0
            finally:
                os.kill(service.redis.pid, signal.SIGCONT)
        assert "Traceback" not in watch.text
    command = f"{' '.join(WATCH)} | head -1"
    done = subprocess.run(command, shell=True, env=service.environment, capture_output=True, text=True, timeout=60)
    assert "redis: answers" in done.stdout, "the first line"
    assert done.stderr == "", "and nothing about a reader that is gone"


def test_an_outage_of_redis_is_a_line_and_ends(service: RunningService, tmp_path: Path) -> None:
    version = str(service.client.model().wanted_version)
    with watching(service, terminal=True) as screen, watching(service) as pipe:
        eventually(lambda: "ready" in screen.frame and "ready" in pipe.text, "both run")
        service.redis.stop()
        eventually(lambda: "does not answer" in screen.frame, "the outage is shown")
        assert version[:12] in screen.frame, "with what was seen last"
        eventually(lambda: "redis: " in pipe.lines[-1] and "does not answer" in pipe.lines[-1], "it is a line")
        with start_redis(tmp_path / "again", port=service.redis.port):
            eventually(lambda: "does not answer" not in screen.frame and "ready" in screen.frame, "it goes on")
            eventually(lambda: "ready" in pipe.lines[-1], "so do the lines", seconds=30)
            assert [watch.stopped(signal.SIGINT) for watch in (screen, pipe)] == [0, 0]
    assert "Traceback" not in screen.text + pipe.text


def test_a_pipe_gets_a_line_for_each_change(service: RunningService, workspace: Path) -> None:
    first = str(service.client.model().wanted_version)
    with watching(service) as watch:
        eventually(lambda: watch.text.count("ready") == 2, "the beginning is shown")
        began = len(watch.lines)
        service.client.submit([[0.0] * 8]).result(timeout=20)
        assert "\x1b" not in watch.text
        replace_pair(workspace, 2)
        eventually(lambda: watch.text.count("ready") >= 4, "two more lines")
        second = str(service.client.model().wanted_version)
        eventually(lambda: f"wanted is {second[:12]}, 2 of 2 processes serve it" in watch.text, "and one in all")
        changes = "\n".join(watch.lines[began:])
        assert first[:12] not in "\n".join(watch.lines[-2:])
        assert len(re.findall(rf":\d+ mccp-uq: ready, serves {second[:12]}$", changes, flags=re.MULTILINE)) == 2
        assert len(watch.lines) < began + 8, "jobs and ages are no changes"
        service.kill_worker()
        eventually(lambda: watch.text.count(": gone") == 2, "who goes is named", seconds=30)
        assert watch.stopped(signal.SIGTERM) == 0
    assert "Traceback" not in watch.text


def test_json_is_a_document_for_each_change(service: RunningService, workspace: Path) -> None:
    with watching(service, "--json") as watch:
        eventually(lambda: len(watch.lines) == 1, "the beginning is a document")
        replace_pair(workspace, 2)
        (workspace / "state/mccp-uq/mccp_state.pkl").write_bytes(write_state_pickle(q_hat=3.0))
        eventually(lambda: service.client.model().converged and len(watch.lines) > 1, "the new version is served")
        wanted = service.client.model().wanted_version
        eventually(lambda: json.loads(watch.lines[-1])["models"][0]["wanted_version"] == wanted, "the last one says it")
        documents = [json.loads(line) for line in watch.lines]
        assert watch.stopped(signal.SIGINT) == 0
    assert [document["problem"] for document in documents] == [None] * len(documents)
    assert documents[0]["models"][0]["converged"]
    assert [process["state"] for process in documents[0]["models"][0]["processes"]] == ["ready", "ready"]
    assert documents[0]["at"] < documents[-1]["at"]
