"""The command `uqueue`: its global options, and the commands from their files."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from uqueue.cli import (
    dead,
    failures,
    gateway,
    jobs,
    learn,
    learn_scenarios,
    localize,
    localizer,
    models,
    publish,
    service,
)

HELP = "Asynchronous predictions with calibrated intervals. Start with `uqueue demo`."


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"uqueue {importlib.metadata.version('uqueue')}")
        raise typer.Exit


def _globals(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    failures.debug.set(debug)


def application() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_globals)
    commands = {
        **jobs.COMMANDS,
        **localize.COMMANDS,
        **models.COMMANDS,
        **publish.COMMANDS,
        **service.COMMANDS,
        **localizer.COMMANDS,
    }
    for name, command in commands.items():
        app.command(name)(failures.reported(command))
    app.add_typer(_group(dead.HELP, dead.COMMANDS), name="dead")
    learning = _group(learn.HELP, learn.COMMANDS)
    learning.add_typer(_group(learn_scenarios.HELP, learn_scenarios.COMMANDS), name="scenarios")
    app.add_typer(learning, name="learn")
    http = typer.Typer(invoke_without_command=True)
    http.callback()(failures.reported(gateway.run))
    for name, command in gateway.COMMANDS.items():
        http.command(name)(failures.reported(command))
    app.add_typer(http, name="gateway")
    return app


def _group(help: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    group = typer.Typer(help=help, no_args_is_help=True)
    for name, command in commands.items():
        group.command(name)(failures.reported(command))
    return group


def run() -> None:
    """Run the command line with this process's arguments, and exit."""
    try:
        application()(prog_name="uqueue")
    except KeyboardInterrupt:
        raise SystemExit(failures.INTERRUPTED) from None
