"""`uqueue demo` as a newcomer runs it: it says what happens, ends well, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from builders.service import all_gone
from builders.waiting import eventually

COMMAND = [sys.executable, "-m", "uqueue", "demo"]


def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path), "UQUEUE_BROKER_URL": "redis://127.0.0.1:1/0"}  # which it must not use
    outcome = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=170, check=False)
    assert outcome.returncode == 0, outcome
    for sentence in ("2 processes", "5 jobs of one row each", "0 failed", "heating load", "every process was stopped"):
        assert sentence in outcome.stdout
    assert outcome.stdout.count("inside the 99 % band") == 2
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_demo_with_all_it_started(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(COMMAND, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children: list[psutil.Process] = []
    try:
        process = psutil.Process(demo.pid)
        eventually(lambda: len(process.children()) >= 2, "Redis and the training run")
        children = process.children(recursive=True)
        demo.send_signal(signal.SIGINT)
        _, messages = demo.communicate(timeout=30)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 130
    assert messages == ""
    eventually(lambda: all_gone(children), "every child has ended", seconds=5)
    assert list(tmp_path.iterdir()) == []
