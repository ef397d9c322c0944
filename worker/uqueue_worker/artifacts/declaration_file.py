"""The second file of a localization model, `localization.json`: what the model declares and where it is registered.

    {"schema": 1, "declaration": {"output_encoding": "metres-xy-sigma", "sha256": "..."}, "number": "3",
     "run_id": "...", "created_at": "2026-11-21T12:00:00.000Z", "accuracy_meters": 24.5, "training_samples": 12000}

Only `declaration` has to be there, and may be empty. A registry's provider writes it from the tags of a version.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uqueue_config.errors import InvalidDeclaration
from uqueue_config.localization import Declaration
from uqueue_worker.artifacts.pair import DECLARATION_FILE

MAX_BYTES: Final = 64 * 1024


class DeclarationFile(BaseModel):
    """What `localization.json` says; `declaration` as it was declared, unchecked.

    number  of the registered version, None where there is no registry
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)

    schema_number: Literal[1] = Field(1, alias="schema")
    declaration: dict[str, Any]
    number: str | None = Field(None, pattern=r"^[0-9]{1,18}$")
    run_id: str | None = Field(None, max_length=200)
    created_at: str | None = Field(None, max_length=40)
    accuracy_meters: float | None = Field(None, ge=0)
    training_samples: int | None = Field(None, ge=0)

    @classmethod
    def parse(cls, data: bytes, *, file: str = DECLARATION_FILE) -> Self:
        """Read a file that anybody may have written. Raises InvalidDeclaration; `file` is what it calls it."""
        if len(data) > MAX_BYTES:
            raise InvalidDeclaration(file=file, reason=f"it has more than {MAX_BYTES} bytes")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            member = ".".join(str(part) for part in first["loc"]) or "all of it"
            raise InvalidDeclaration(file=file, reason=f"{member}: {first['msg'][:200]}") from None

    def to_json(self) -> bytes:
        """Return the file: always the same bytes for the same content, since they are part of the model's version."""
        stated = self.model_dump(by_alias=True, exclude_none=True)
        return json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()

    def declared(self, *, file: str = DECLARATION_FILE) -> Declaration:
        """Return the declaration, checked. Raises InvalidDeclaration with everything that is wrong."""
        try:
            return Declaration.read(self.declaration)
        except ValueError as error:
            raise InvalidDeclaration(file=file, reason=str(error)) from None
