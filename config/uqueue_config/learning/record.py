"""A pydantic model that is a read-only mapping as well: `spot["priority"]`, `.get`, iteration over names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel, Mapping[str, Any]):
    """An immutable, JSON-able record; fields that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    def __getitem__(self, name: str) -> Any:
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # names, as mappings do; pydantic gives pairs
        return iter(type(self).model_fields)

    def __len__(self) -> int:
        return len(type(self).model_fields)

    def __contains__(self, name: object) -> bool:
        return name in type(self).model_fields
