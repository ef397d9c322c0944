"""Errors become a sentence on stderr and an exit code, never a traceback unless asked for."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from uqueue.cli import failures
from uqueue.cli.app import application
from uqueue_config import errors

NOBODY = "redis://127.0.0.1:1/0"


def _run(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> Result:
    return CliRunner().invoke(application(), list(arguments), env=env, input=stdin)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.csv"
    path.write_text("1,2\n")
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [["submit", "-"], ["status", "x"], ["result", "x", "--timeout", "1"], ["cancel", "x"], ["models"], ["reload"]],
    ids=lambda arguments: arguments[0],
)
def test_an_unreachable_redis_is_exit_3_and_quick(arguments: list[str]) -> None:
    started = time.monotonic()
    outcome = _run(*arguments, env={"UQUEUE_BROKER_URL": NOBODY}, stdin="1,2\n")
    assert outcome.exit_code == 3, outcome.output
    assert time.monotonic() - started < 10
    assert outcome.stdout == ""
    assert "does not answer" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_up_with_an_unreachable_redis_starts_nothing() -> None:
    outcome = _run("up", env={"UQUEUE_BROKER_URL": NOBODY})
    assert outcome.exit_code == 3, outcome.output
    assert NOBODY in outcome.stderr


def test_doctor_says_what_to_do_about_an_unreachable_redis() -> None:
    outcome = _run("doctor", env={"UQUEUE_BROKER_URL": NOBODY, "UQUEUE_FLOWER_PORT": "1"})
    assert outcome.exit_code == 3
    assert "fail broker and results" in outcome.stdout
    assert "Start Redis" in outcome.stdout


@pytest.mark.parametrize("command", [["models"], ["submit", "-"], ["up"], ["doctor"]], ids=lambda command: command[0])
def test_wrong_settings_are_exit_2_and_all_named(command: list[str]) -> None:
    outcome = _run(*command, env={"UQUEUE_BROKR_URL": "x", "UQUEUE_POLL_SECONDS": "soon"}, stdin="1,2\n")
    assert outcome.exit_code == 2, outcome.output
    assert "UQUEUE_BROKR_URL" in outcome.output
    assert "UQUEUE_POLL_SECONDS" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["submit"], ["submit", "-", "--seed", "-1"], ["submit", "-", "--format", "xls"]],
    ids=" ".join,
)
def test_wrong_arguments_are_exit_2(arguments: list[str]) -> None:
    assert _run(*arguments).exit_code == 2


def test_bad_rows_are_exit_2_before_redis_is_asked() -> None:
    outcome = _run("submit", "-", env={"UQUEUE_BROKER_URL": NOBODY}, stdin="1,2\n3,x\n")
    assert outcome.exit_code == 2
    assert "stdin, line 2, column 2" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ServiceUnreachable("m"), 3),
        (errors.SettingsError("m"), 2),
        (errors.InvalidFeatures("m"), 2),
        (errors.IdempotencyConflict("m"), 2),
        (errors.JobFailed("m"), 1),
        (errors.JobTimeLimit("m"), 1),
        (errors.JobCancelled("m"), 1),
        (errors.JobNotFound("m"), 1),
        (errors.JobNotFinished("m"), 1),
        (errors.ModelNotAvailable("m"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: errors.UqueueError, code: int) -> None:
    assert failures.exit_code(error) == code


def test_the_unforeseen_is_a_fixed_sentence_and_a_traceback_only_with_debug(
    rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("uqueue.cli.jobs.read_rows", broken)
    plain = _run("submit", rows)
    assert (plain.exit_code, plain.stdout) == (1, "")
    assert "unforeseen" in plain.stderr
    assert "secret detail" not in plain.stderr
    debugged = _run("--debug", "submit", rows)
    assert debugged.exit_code == 1
    assert "ZeroDivisionError: secret detail" in debugged.stderr


def test_ctrl_c_is_quiet(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uqueue.cli.jobs.read_rows", interrupted)
    outcome = _run("submit", rows)
    assert (outcome.exit_code, outcome.output) == (130, "")


@pytest.mark.parametrize(("command", "module"), [("up", "structlog"), ("demo", "tensorflow")])
def test_a_missing_extra_is_named(command: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    def without(name: str) -> object:
        return None if name == module else find_spec(name)

    monkeypatch.setattr("importlib.util.find_spec", without)
    outcome = _run(command)
    assert outcome.exit_code == 2
    assert f'{module}, not installed here: pip install "uqueue[' in outcome.stderr


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_its_libraries_the_command_names_the_extra(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from uqueue.__main__ import main; main()"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr.endswith('not installed: pip install "uqueue[cli]"\n')
    assert outcome.stderr.startswith(f"The command line needs {module}")


def test_version() -> None:
    outcome = _run("--version")
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("uqueue 0.")
