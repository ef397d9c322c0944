"""What the command line makes of errors: a sentence on stderr and an exit code. A traceback only with `--debug`.

0    it worked
1    the job failed, or the service is not well
2    wrong usage: arguments, input, settings
3    Redis cannot be reached
130  interrupted
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec

import typer

from uqueue.cli.output import complain
from uqueue_config.errors import (
    IdempotencyConflict,
    InputError,
    JobAbandoned,
    QueueFull,
    ServiceUnreachable,
    SettingsError,
    UqueueError,
)
from uqueue_config.learning.errors import MappingInvalid, RunConfigInvalid, ScenarioInvalid

P = ParamSpec("P")

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
#: Whether tracebacks are wanted.
debug: ContextVar[bool] = ContextVar("debug", default=False)


class UsageProblem(Exception):
    """Something outside uqueue is missing or wrong: the message says what to do. Exit code 2."""


def exit_code(error: UqueueError) -> int:
    """Return the exit code an error stands for."""
    match error:
        case ServiceUnreachable():
            return UNREACHABLE
        case QueueFull():
            return FAILED
        case InputError() | SettingsError() | IdempotencyConflict():
            return USAGE
        case RunConfigInvalid() | ScenarioInvalid() | MappingInvalid():
            return USAGE
    return FAILED


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into a message and an exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UqueueError as error:
            raise _left(error, f"{error.message}{_advice(error)}", exit_code(error)) from None
        except UsageProblem as problem:
            raise _left(problem, str(problem), USAGE) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # `uqueue result … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            sentence = "uqueue met an unforeseen problem; `uqueue --debug …` shows where. Nothing more is known."
            raise _left(error, sentence, FAILED) from None

    return guarded


def _advice(error: UqueueError) -> str:
    if isinstance(error, JobAbandoned):
        return f" It is kept as a dead letter: `uqueue dead show {error.facts.get('job_id')}`."
    return ""


def _left(error: BaseException, message: str, code: int) -> typer.Exit:
    if debug.get():
        traceback.print_exception(error, file=sys.stderr)
    complain(message)
    return typer.Exit(code)
