"""`uqueue up` as a real process: from start to the last child's end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from builders.artifacts import write_workspace
from builders.command import uqueue as command
from builders.publisher import SOURCE, publishing
from builders.service import all_gone
from builders.waiting import eventually
from uqueue import Client, Settings

ROW = [[0.98, 514.5, 294.0, 110.25, 7.0, 2.0, 0.0, 0.0]]


class Up:
    """A running `uqueue up`, its output in files."""

    def __init__(self, folder: Path, arguments: list[str], env: Mapping[str, str]) -> None:
        self.stdout_file, self.stderr_file = folder / "stdout", folder / "stderr"
        command = [sys.executable, "-m", "uqueue", "up", *arguments]
        base = {"UQUEUE_CACHE_DIR": str(folder / "cache"), "UQUEUE_POLL_SECONDS": "1", "UQUEUE_FLOWER_PORT": "0"}
        with self.stdout_file.open("w") as out, self.stderr_file.open("w") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**os.environ, **base, **env}, start_new_session=True
            )

    @property
    def stdout(self) -> str:
        return self.stdout_file.read_text()

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def wait_for(self, text: str) -> None:
        eventually(lambda: text in self.stdout or self.process.poll() is not None, f"{text!r} on stdout", seconds=60)
        assert text in self.stdout, self.stderr

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        return next(child for child in self.children() if word in child.cmdline())

    def broker_url(self) -> str:
        found = re.search(r"UQUEUE_BROKER_URL=(\S+)", self.stdout)
        assert found is not None
        return found[1]


@contextmanager
def running_up(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Up]:
    up = Up(folder, list(arguments), env or {})
    children: list[psutil.Process] = []
    try:
        yield up
    finally:
        if up.process.poll() is None:
            children = up.children()
            up.process.send_signal(signal.SIGTERM)
            try:
                up.process.wait(40)
            except subprocess.TimeoutExpired:
                up.process.kill()
                up.process.wait()
        for child in children:
            if child.is_running():
                child.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serves_and_leaves_nothing_behind(stop: signal.Signals, tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    with running_up(tmp_path, "--workspace", str(tmp_path / "workspace"), "--concurrency", "2", "--no-flower") as up:
        up.wait_for("uqueue is ready")
        children = up.children()
        assert len(children) >= 5  # Redis, the worker with two processes, beat
        with Client(Settings.load({"UQUEUE_BROKER_URL": up.broker_url()})) as client:
            assert client.submit(ROW).result(timeout=20).lower.shape == (1, 2)
            assert {process.pid for process in client.model().processes} <= {child.pid for child in children}
        up.process.send_signal(stop)
        assert up.process.wait(40) == 0, up.stderr
        eventually(lambda: all_gone(children), "every child has ended", seconds=5)
        assert " worker │ " in up.stderr
        assert "Stopping" in up.stderr


def test_no_model_yet_is_a_state_and_ends_when_one_comes(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with running_up(tmp_path, "--workspace", str(workspace), "--concurrency", "1", "--no-flower") as up:
        up.wait_for("uqueue is up, without a model")
        assert "A training and calibration run must come first" in " ".join(up.stdout.replace("│", " ").split())
        write_workspace(workspace)
        with Client(Settings.load({"UQUEUE_BROKER_URL": up.broker_url()})) as client:
            eventually(lambda: client.model().converged, "the model is served")
            assert len(client.submit(ROW).result(timeout=20)) == 1


@pytest.mark.parametrize("word", ["beat", "worker"])
def test_a_service_that_dies_is_named_and_the_rest_is_stopped(word: str, tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    with running_up(tmp_path, "--workspace", str(tmp_path / "workspace"), "--concurrency", "1", "--no-flower") as up:
        up.wait_for("uqueue is ready")
        children = up.children()
        up.child(word).kill()
        assert up.process.wait(40) == 1
        eventually(lambda: all_gone(children), "every child has ended", seconds=5)
        assert f"{word} ended by itself with code -9" in up.stderr
        assert "Its last lines" in up.stderr


def test_a_configured_broker_is_used_and_left_alone(tmp_path: Path, redis_url: str) -> None:
    write_workspace(tmp_path / "workspace")
    url = redis_url.removesuffix("/0") + "/7"
    env = {"UQUEUE_BROKER_URL": url, "UQUEUE_WORKSPACE_ROOT": str(tmp_path / "workspace"), "UQUEUE_CONCURRENCY": "1"}
    with running_up(tmp_path, "--no-flower", "--no-beat", env=env) as up:
        up.wait_for("uqueue is ready")
        assert "embedded" not in up.stdout
        assert not any("beat" in child.cmdline() for child in up.children())
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(40) == 0
    with Client(Settings.load({"UQUEUE_BROKER_URL": url})) as client:
        assert client.model().processes == ()  # it said goodbye, and its Redis still answers


def test_flower_is_part_of_it(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    env = {"UQUEUE_FLOWER_PORT": address.rpartition(":")[2]}

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{address}/healthcheck").status_code == 200
        return False

    with running_up(tmp_path, "--workspace", str(tmp_path / "workspace"), "--concurrency", "1", env=env) as up:
        up.wait_for("uqueue is ready")
        assert address in up.stdout
        eventually(answers, "Flower answers")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(40) == 0
    assert not answers()


def test_a_second_ctrl_c_is_quicker(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace", delta=0.0, max_mc=100_000)
    env = {"UQUEUE_SHUTDOWN_SECONDS": "60"}
    arguments = ["--workspace", str(tmp_path / "workspace"), "--concurrency", "1", "--no-flower", "--no-beat"]
    with running_up(tmp_path, *arguments, env=env) as up:
        up.wait_for("uqueue is ready")
        children = up.children()
        with Client(Settings.load({"UQUEUE_BROKER_URL": up.broker_url()})) as client:
            job = client.submit(ROW * 2000)
            eventually(lambda: job.status().state == "running", "the long job runs")
            up.process.send_signal(signal.SIGINT)
            eventually(lambda: "Warm shutdown" in up.stderr, "the worker waits for its job")
            assert up.process.poll() is None
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(20) == 0
        eventually(lambda: all_gone(children), "every child has ended", seconds=5)


def test_the_workspace_that_is_given_goes_before_the_source_that_is_set(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    env = {"UQUEUE_ARTIFACT_SOURCE": "s3://nowhere/at-all", "UQUEUE_CONCURRENCY": "1"}
    with running_up(tmp_path, "--workspace", str(tmp_path / "workspace"), "--no-flower", "--no-beat", env=env) as up:
        up.wait_for("uqueue is ready")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(40) == 0


def test_a_bucket_that_is_given_goes_before_the_source_that_is_set(tmp_path: Path) -> None:
    with publishing(tmp_path) as publisher:
        version, _ = publisher.good(1)
        env = {"UQUEUE_ARTIFACT_SOURCE": str(tmp_path / "nowhere"), **publisher.server.environment()}
        arguments = ["--source", SOURCE, "--concurrency", "1", "--no-flower", "--no-beat"]
        with running_up(tmp_path, *arguments, env=env) as up:
            up.wait_for("uqueue is ready")
            assert version[:12] in up.stdout
            up.process.send_signal(signal.SIGINT)
            assert up.process.wait(40) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workspace", "/a", "--source", SOURCE], "--workspace and --source: give one of them"),
        (["--source", "s3://"], "UQUEUE_ARTIFACT_SOURCE: expected s3://bucket/prefix"),
        (["--source", "models:/energy@production"], "set mlflow_tracking_url"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(arguments: list[str], words: str) -> None:
    assert words in command(os.environ, "up", *arguments, code=2).stderr
