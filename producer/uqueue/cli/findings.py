"""What `uqueue doctor` has to say about one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `advice` says what to do; empty when all is well."""

    check: str
    level: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""

    def message(self) -> dict[str, str]:
        return asdict(self)
