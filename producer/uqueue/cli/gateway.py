"""`uqueue gateway`: run the HTTP gateway, make API keys and webhook secrets for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from uqueue.cli.failures import FAILED, UsageProblem
from uqueue.cli.output import say
from uqueue.cli.service import require
from uqueue.gateway.keys import SCOPES, NewKey, append_key
from uqueue.gateway.webhooks_signing import append_secret, new_secret
from uqueue_config.settings import Settings

MODULES = ("fastapi", "httptools", "prometheus_client", "uvicorn")


def run(
    context: typer.Context,
    address: Annotated[str | None, typer.Option(help="Listen here, before UQUEUE_GATEWAY_ADDRESS.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="… and on this port.")] = None,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM. It wants API keys unless it listens on this computer only."""
    if context.invoked_subcommand is not None:
        return
    require("gateway", *MODULES)
    given: dict[str, Any] = {"gateway_address": address, "gateway_port": port}
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    from uqueue.gateway.server import run as serve

    if not serve(settings):
        raise typer.Exit(FAILED)


def new_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; shown in the file only.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="submit, read or admin; may be given several times. Unless given: both first."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="The file to add it to, before UQUEUE_API_KEYS_FILE.")] = None,
) -> None:
    """Make an API key, add its hash to the file, and print it: once, for nobody keeps it."""
    path = file or Settings.load().api_keys_file
    if path is None:
        raise UsageProblem("--file: give one, or set UQUEUE_API_KEYS_FILE")
    wanted = scope or ["submit", "read"]
    wrong = sorted(set(wanted) - set(SCOPES))
    if wrong:
        raise UsageProblem(f"--scope: expected {', '.join(SCOPES)}, got {', '.join(wrong)}")
    try:
        made = NewKey.make(name, wanted)  # type: ignore[arg-type]
    except ValidationError:
        raise UsageProblem("NAME: expected 1 to 64 letters, digits, spaces and . _ -") from None
    append_key(path, made.entry)
    say(f"Added to {path}. This is the only time the key is shown:")
    typer.echo(made.secret)


def new_webhook_secret(
    file: Annotated[
        Path | None,
        typer.Option(help="Add it to this file, before UQUEUE_WEBHOOK_SECRETS_FILE; only print it unless set."),
    ] = None,
) -> None:
    """Make a secret that webhooks are signed with, and print it for those who receive them.

    Beside an older one in the file, webhooks are signed with both until that one is taken out.
    """
    secret, path = new_secret(), file or Settings.load().webhook_secrets_file
    if path is not None:
        append_secret(path, secret)
        say(f"Added to {path}. Whoever receives webhooks needs it too:")
    typer.echo(secret)


COMMANDS: dict[str, Callable[..., None]] = {"new-key": new_key, "new-webhook-secret": new_webhook_secret}
