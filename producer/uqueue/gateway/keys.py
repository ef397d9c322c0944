"""API keys: made once, shown once, kept as hashes.

The file is TOML, one table per key:

    [[keys]]
    id = "4f2a9c31"
    name = "robtrack"
    sha256 = "9f86d0..."
    scopes = ["read", "submit"]

A key is 256 random bits, so a plain SHA-256 of it tells nothing: there is no list of likely keys to try.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uqueue_config.errors import SettingsError

Scope = Literal["submit", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
MAX_FILE_BYTES = 1024 * 1024
_KEY = re.compile(r"uq_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KeyEntry(BaseModel):
    """One key as the file holds it. `admin` includes the other scopes."""

    model_config = _STRICT

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def to_toml(self) -> str:
        """Return the table to append to the file."""
        scopes = ", ".join(f'"{scope}"' for scope in sorted(self.scopes))
        return f'[[keys]]\nid = "{self.id}"\nname = "{self.name}"\nsha256 = "{self.sha256}"\nscopes = [{scopes}]\n'


class _File(BaseModel):
    model_config = _STRICT

    keys: tuple[KeyEntry, ...] = ()


@dataclass(frozen=True)
class NewKey:
    """A fresh key: `secret` is for its owner and nobody keeps it, `entry` goes into the file."""

    secret: str
    entry: KeyEntry

    @classmethod
    def make(cls, name: str, scopes: Iterable[Scope]) -> Self:
        """Raises ValueError (pydantic's) for a name or scope that is none."""
        id = secrets.token_hex(4)
        secret = f"uq_{id}_{secrets.token_urlsafe(32)}"
        return cls(secret, KeyEntry(id=id, name=name, sha256=_hash(secret), scopes=frozenset(scopes)))


def append_key(path: Path, entry: KeyEntry) -> None:
    """Add a key to the file, which is made where it is not there, for its owner only. Raises SettingsError."""
    try:
        before = path.read_bytes() if path.exists() else b""
        _parse(path, before)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise _unusable(path, f"it cannot be written ({error.strerror})") from None
    with open(descriptor, "a", encoding="utf-8") as stream:
        stream.write(("\n" if before else "") + entry.to_toml())


class KeyRing:
    """The keys of a file; `look` reads it again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._entries: Mapping[str, KeyEntry] = {}

    def look(self) -> None:
        """Read the file if it is another than before. Raises SettingsError; the keys known before then stay."""
        try:
            status = self._path.stat()
            seen = status.st_ino, status.st_mtime_ns, status.st_size
            if seen != self._seen:
                with self._path.open("rb") as stream:
                    self._entries = _parse(self._path, stream.read(MAX_FILE_BYTES + 1))
                self._seen = seen
        except OSError as error:
            raise _unusable(self._path, f"it cannot be read ({error.strerror})") from None

    def find(self, secret: str) -> KeyEntry | None:
        """Return the key's entry, None where it is not one of these."""
        match = _KEY.fullmatch(secret)
        entry = self._entries.get(match[1]) if match else None
        return entry if entry is not None and hmac.compare_digest(entry.sha256, _hash(secret)) else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _parse(path: Path, data: bytes) -> dict[str, KeyEntry]:
    if len(data) > MAX_FILE_BYTES:
        raise _unusable(path, f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        found = _File.model_validate(tomllib.loads(data.decode())).keys
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _unusable(path, f"{place}: {first['msg']}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unusable(path, f"it is not TOML ({str(error)[:200]})") from None
    return {entry.id: entry for entry in found}


def _unusable(path: Path, reason: str) -> SettingsError:
    text = f"The API keys in {path} (UQUEUE_API_KEYS_FILE) are not usable: {reason}."
    return SettingsError(text, problems=[reason])
