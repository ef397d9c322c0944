"""Writes docs/reference from the code: `python docs/generate.py`. A test fails when the files are out of date."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import typer.main
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from uqueue_config.errors import UqueueError, all_errors
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import LEARNING_PREFIX, PREFIX, Settings

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py; do not edit. -->\n"


SETTINGS_PAGE = """\
{note}
# Settings

Environment variables, read once per process. Unknown and wrong ones are all named in one error, and the process exits
with 2. Durations are seconds or ISO 8601 (`PT30S`).

| variable | default | meaning |
|---|---|---|
{rows}

## Active learning

Read by `uqueue_config.learning.settings.LearningSettings.load()`, checked likewise.

| variable | default | meaning |
|---|---|---|
{learning_rows}
"""

ERRORS_PAGE = """\
{note}
# Errors

All are in `uqueue_config.errors`, those below `ActiveLearningError` in `uqueue_config.learning.errors`;
indentation is inheritance. Facts in braces are attributes of the error and travel
with it. The command line exits with 0 on success, 1 for a job or model that failed, 2 for wrong usage or input, 3 when
a server cannot be reached.

| code | class | message |
|---|---|---|
{rows}
"""


def settings_page() -> str:
    rows, learning_rows = _settings_rows(PREFIX, Settings), _settings_rows(LEARNING_PREFIX, LearningSettings)
    return SETTINGS_PAGE.format(note=NOTE, rows=rows, learning_rows=learning_rows)


def _settings_rows(prefix: str, settings: type[BaseModel]) -> str:
    fields = settings.model_fields.items()
    return "\n".join(f"| `{prefix}{name.upper()}` | {_default(field)} | {_meaning(field)} |" for name, field in fields)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == ():
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    return f"`{value.get_secret_value() if isinstance(value, SecretStr) else value}`"


def _meaning(field: FieldInfo) -> str:
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    return (field.description or "") + (f" One of {', '.join(f'`{c}`' for c in choices)}." if choices else "")


def errors_page() -> str:
    rows = [
        f"| `{cls.code}` | {'&nbsp;&nbsp;' * _depth(cls)}`{cls.__name__}` | {_sentence(cls)} |" for cls in all_errors()
    ]
    return ERRORS_PAGE.format(note=NOTE, rows="\n".join(rows))


def _depth(cls: type[UqueueError]) -> int:
    return sum(1 for base in cls.__mro__ if issubclass(base, UqueueError)) - 1


def _sentence(cls: type[UqueueError]) -> str:
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split()).replace("|", "\\|")


def cli_page() -> str:
    from uqueue.cli.app import application

    command = typer.main.get_command(application())
    parts = [f"{NOTE}\n# Command line\n\nData goes to stdout, messages to stderr. `--json` prints one JSON value.\n"]
    for name, sub in _commands(command):
        parts.append(f"\n## `uqueue {name}`\n\n{inspect.cleandoc(sub.help or '')}\n")
        rows = [_option(parameter) for parameter in sub.params if parameter.name != "help"]
        if rows:
            parts.append("\n| argument | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _commands(command: Any) -> Iterator[tuple[str, Any]]:
    for name, sub in sorted(command.commands.items()):
        if hasattr(sub, "commands"):
            if sub.invoke_without_command:
                yield name, sub
            yield from ((f"{name} {inner}", one) for inner, one in _commands(sub))
        else:
            yield name, sub


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    default = parameter.default if isinstance(parameter.default, (str, int, float)) and parameter.default else ""
    return f"| {names} | {default} | {' '.join((getattr(parameter, 'help', '') or '').split())} |"


PAGES = {"settings.md": settings_page, "errors.md": errors_page, "cli.md": cli_page}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
