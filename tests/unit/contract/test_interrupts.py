"""Signals act after the block that holds them, each once, and nothing is left of it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time

import pytest

from uqueue_config.interrupts import signals_later


def test_an_interrupt_waits_until_what_is_started_is_known() -> None:
    handler = signal.getsignal(signal.SIGINT)
    children = []

    def start() -> None:
        with signals_later():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            children.append(subprocess.Popen(["sleep", "60"]))

    with pytest.raises(KeyboardInterrupt):
        start()
    (child,) = children
    child.terminate()
    assert child.wait() == -signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is handler


def test_each_signal_goes_to_its_own_handler_and_what_is_ignored_stays_ignored() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_later():
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
                signal.raise_signal(number)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, ignored)


def test_an_error_in_the_block_is_not_hidden_where_no_signal_came() -> None:
    with pytest.raises(FileNotFoundError), signals_later():
        subprocess.Popen(["/no/such/program"])


def test_other_threads_may_start_processes_too() -> None:
    done: list[float] = []

    def work() -> None:
        with signals_later():
            done.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert len(done) == 1
