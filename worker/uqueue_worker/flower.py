"""Flower with uqueue's settings: `python -m uqueue_worker.flower` runs `celery -A uqueue_worker.app flower` with the
address, port and basic authentication that the settings name. The password appears in no command line.
"""

from __future__ import annotations

import os
import sys

from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings


def flower_environment(settings: Settings) -> dict[str, str]:
    """Return the FLOWER_* variables for these settings."""
    variables = {"FLOWER_ADDRESS": settings.flower_address, "FLOWER_PORT": str(settings.flower_port)}
    if settings.flower_user is not None and settings.flower_password is not None:
        variables["FLOWER_BASIC_AUTH"] = f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"
    return variables


def main() -> None:
    try:
        settings = Settings.load()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(2) from None
    command = [sys.executable, "-m", "celery", "-A", "uqueue_worker.app", "flower"]
    os.execve(command[0], command, {**os.environ, **flower_environment(settings)})  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
