"""Signatures of webhooks as https://www.standardwebhooks.com describes them: HMAC-SHA256 of id, timestamp and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings

PREFIX = "whsec_"
NEW_BYTES = 32
#: How long the standard wants the bytes of a secret to be.
SHORTEST_BYTES, LONGEST_BYTES = 24, 64
MAX_FILE_BYTES = 64 * 1024


def new_secret() -> str:
    """Return a fresh secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW_BYTES)).decode()


def headers_of(id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the three headers of a webhook, signed with every key."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    digests = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


class Secrets:
    """The secrets of the settings; `keys` reads the file again when it has changed."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError where they cannot be used."""
        given = settings.webhook_secrets
        self._fixed = parse_secrets(given.get_secret_value(), "UQUEUE_WEBHOOK_SECRETS") if given else ()
        self._path = settings.webhook_secrets_file
        self._seen: tuple[int, int, int] | None = None
        self._from_file: tuple[bytes, ...] = ()
        self.keys()

    def __bool__(self) -> bool:
        return bool(self._fixed or self._from_file)

    def keys(self) -> tuple[bytes, ...]:
        """Return all keys. Raises SettingsError where the file has become unusable; `last_keys` are those before."""
        if self._path is not None:
            try:
                status = self._path.stat()
                seen = status.st_ino, status.st_mtime_ns, status.st_size
                if seen != self._seen:
                    with self._path.open("rb") as stream:
                        text = stream.read(MAX_FILE_BYTES).decode("ascii", "replace")
                    self._from_file = parse_secrets(text, f"{self._path} (UQUEUE_WEBHOOK_SECRETS_FILE)")
                    self._seen = seen
            except OSError as error:
                raise _unusable(str(self._path), f"it cannot be read ({error.strerror})") from None
        return self.last_keys

    @property
    def last_keys(self) -> tuple[bytes, ...]:
        return (*self._fixed, *self._from_file)


def parse_secrets(text: str, place: str) -> tuple[bytes, ...]:
    """Return the keys of secrets that are separated by commas or lines, without comments. Raises SettingsError."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    words = [word.strip() for line in lines for word in line.split(",") if word.strip()]
    return tuple(_key(word, number, place) for number, word in enumerate(words, 1))


def _key(secret: str, number: int, place: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST_BYTES <= len(key) <= LONGEST_BYTES:
        expected = f"{PREFIX} and base64 of {SHORTEST_BYTES} to {LONGEST_BYTES} bytes"
        raise _unusable(place, f"number {number}: expected {expected}; `uqueue gateway new-webhook-secret` makes one")
    return key


def append_secret(path: Path, secret: str) -> None:
    """Add a secret to a file, which is made where it is not there, for its owner only. Raises SettingsError."""
    try:
        before = path.read_bytes() if path.exists() else b""
        parse_secrets(before.decode("ascii", "replace"), str(path))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise _unusable(str(path), f"it cannot be written ({error.strerror})") from None
    with open(descriptor, "a", encoding="ascii") as stream:
        stream.write(("" if not before or before.endswith(b"\n") else "\n") + secret + "\n")


def _unusable(place: str, reason: str) -> SettingsError:
    text = f"The webhook secrets in {place} are not usable: {reason}."
    return SettingsError(text, problems=[reason])
