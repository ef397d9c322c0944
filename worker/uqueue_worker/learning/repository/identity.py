"""Ids of scenarios: a UUID is the key itself, any other id is an external one whose key follows from it."""

from __future__ import annotations

import re
from uuid import UUID, uuid5

_NAMESPACE = UUID("5f0c3f0e-6c0b-5d0a-9a3e-0d1f7f9b2a61")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_MAX_CHARACTERS = 500


def key_of(scenario_id: object) -> UUID | None:
    """Return the key that an id stands for; None for what is no id: not text, empty, too long, not storable."""
    if not isinstance(scenario_id, str) or not 0 < len(scenario_id) <= _MAX_CHARACTERS or "\x00" in scenario_id:
        return None
    if is_key(scenario_id):
        return UUID(scenario_id)
    try:
        return uuid5(_NAMESPACE, scenario_id)
    except UnicodeEncodeError:  # lone surrogates
        return None


def is_key(scenario_id: str) -> bool:
    """Say whether an id is a UUID in its usual form, which needs no external id beside it."""
    return _UUID.fullmatch(scenario_id) is not None


def derived_id(base: str, suffix: str, number: int = 1) -> str:
    """Return the id of what was made from `base`; a UUID that follows from both where they are too long together."""
    wanted = f"{base}{suffix}" if number == 1 else f"{base}{suffix}_{number}"
    return wanted if len(wanted) <= _MAX_CHARACTERS else str(uuid5(_NAMESPACE, wanted))
