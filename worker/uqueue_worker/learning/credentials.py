"""Secrets: where they come from, and how they stay out of logs, messages and tracebacks.

A secret is looked for, in this order, in the argument, in the environment variable `NAME`, in the file named by the
variable `NAME_FILE`, and in a source that a program passes (a vault, a cloud's secret store). There are no defaults.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from pydantic import SecretStr

from uqueue_config.errors import SettingsError

_MASK = "**********"
_MAX_FILE_BYTES = 64 * 1024


class SecretSource(Protocol):
    """A place where secrets are kept under names, such as a vault."""

    def read(self, name: str) -> str | None:
        """Return the secret of that name, or None if there is none."""


class Credential:
    """A secret that is read when it is used, so that a file or a vault may change it while the program runs.

    It shows as `**********` wherever it is printed, logged or formatted, and cannot be pickled or copied into JSON.
    """

    __slots__ = ("_read", "name")

    def __init__(self, name: str, read: Callable[[], str]) -> None:
        self.name = name
        self._read = read

    def reveal(self) -> str:
        """Return the secret as it is now. Raises SettingsError if it cannot be read any more, or is empty."""
        secret = self._read()
        if not secret:
            raise SettingsError(f"{self.name} is empty.")
        return secret

    def __repr__(self) -> str:
        return f"Credential({self.name!r}, {_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, _: str) -> str:
        return _MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Credential is not pickled: pass its name, and look it up where it is used")


def credential(
    name: str,
    given: str | SecretStr | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    source: SecretSource | None = None,
) -> Credential | None:
    """Return where the secret `name` comes from, or None if nothing holds it; nothing is read from files yet.

    given, file  arguments, which come before the environment
    environ      the process's environment unless given
    source       asked last, and asked once here whether it has the secret at all
    """
    variables = os.environ if environ is None else environ
    if given is not None:
        secret = given if isinstance(given, SecretStr) else SecretStr(given)
        return Credential(name, secret.get_secret_value)
    if file is not None:
        return Credential(name, lambda: _content(name, file))
    if variables.get(name):
        return Credential(name, lambda: variables.get(name, ""))
    if path := variables.get(f"{name}_FILE"):
        return Credential(name, lambda: _content(name, Path(path)))
    if source is not None and source.read(name):
        return Credential(name, lambda: source.read(name) or "")
    return None


def required(name: str, given: str | SecretStr | None = None, **places: Any) -> Credential:
    """Return as `credential`. Raises SettingsError saying where the secret may stand if it stands nowhere."""
    found = credential(name, given, **places)
    if found is None:
        raise SettingsError(f"{name} is not set. Set it, or set {name}_FILE to a file that holds it.")
    return found


def _content(name: str, file: Path) -> str:
    """Return a file's text without the line end that editors add."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"it has more than {_MAX_FILE_BYTES} bytes")
        return data.decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).split(":")[0]
        raise SettingsError(f"The file {file} with {name} cannot be read ({reason}).") from None
