"""A scenario definition: the immutable record of a scenario, with the fifteen fields of the Avro schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import from_json

from uqueue_config.learning.errors import ScenarioInvalid
from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.record import Record

Complexity = Literal["VERY_LOW", "LOW", "MEDIUM", "HIGH", "VERY_HIGH", "CUSTOM"]
_MAX_PARAMETER_CHARACTERS = 1_048_576
_MAX_EPOCH_MS = 253_402_300_799_999  # the last millisecond of the year 9999, where datetime ends


class ScenarioComplexityLevel(IntEnum):
    """How hard a scenario is. The schema's CUSTOM is a value of records only, not of scenarios that run here."""

    VERY_LOW = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    VERY_HIGH = 5


def _complexity(value: Any) -> Any:
    return value.name if isinstance(value, ScenarioComplexityLevel) else value


def epoch_ms(value: Any) -> int:
    """Return a time as milliseconds since 1970 UTC: milliseconds, a datetime or ISO 8601 text.

    Times without a zone are UTC. Raises ValueError for anything else.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("expected epoch milliseconds or an ISO 8601 time") from None
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_EPOCH_MS:
        raise ValueError("expected epoch milliseconds or an ISO 8601 time")
    return round(value)


def now_ms() -> int:
    return epoch_ms(datetime.now(UTC))


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Return parameters as canonical JSON: sorted keys, no spaces. Raises ValueError for what JSON cannot carry."""
    try:
        text = json.dumps(dict(parameters), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"expected what JSON can carry ({error})") from None
    return text


def _as_text(value: Any) -> Any:
    return parameters_text(value) if isinstance(value, Mapping) else value


def _checked_text(value: str) -> str:
    try:
        parsed = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"expected the text of a JSON object ({error})") from None
    if not isinstance(parsed, dict):
        raise ValueError("expected the text of a JSON object")  # noqa: TRY004 - pydantic reports this one
    json.dumps(parsed, allow_nan=False)  # 1e999 is read as infinity
    return value


def _unicode(value: str) -> str:
    if "\x00" in value:
        raise ValueError("expected text without NUL characters")
    value.encode()  # lone surrogates have no UTF-8 form, so neither files nor databases take them
    return value


Text = Annotated[str, AfterValidator(_unicode)]
Name = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_unicode)]
EpochMs = Annotated[int, BeforeValidator(epoch_ms)]


class ScenarioDefinition(Record):
    """One version of a scenario: its family, its parameters and what people and searches know it by.

    It is a read-only mapping as well: `d["name"]`, `d.get("author")`, `dict(d)`; names in the order of the schema.
    `specific_params_json` is the text of a JSON object (a mapping is taken too); `specific_params` is that object.
    """

    scenario_definition_id: Name
    scenario_class_module: Text = ""
    scenario_class_name: Text = ""
    scenario_instance_id: Name
    name: Name
    description: Text = ""
    category: Text = "general"
    tags: tuple[Name, ...] = ()
    difficulty_level: Annotated[Complexity, BeforeValidator(_complexity)] = "MEDIUM"
    expected_duration_seconds: float | None = Field(None, gt=0)
    version: int = Field(1, ge=1, le=2**31 - 1)
    creation_timestamp_utc: EpochMs = Field(default_factory=now_ms)
    specific_params_json: Annotated[
        Text,
        BeforeValidator(_as_text),
        Field(max_length=_MAX_PARAMETER_CHARACTERS),
        AfterValidator(_checked_text),
    ] = "{}"
    author: Text | None = None
    related_scenario_ids: tuple[Name, ...] = ()

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Return the definition that a mapping describes. Raises ScenarioInvalid naming everything that is wrong."""
        try:
            return cls.model_validate(dict(record))
        except ValidationError as error:
            raise ScenarioInvalid(reason=problems_of(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _named_instance(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("scenario_instance_id") is None:
            return {**values, "scenario_instance_id": values.get("scenario_definition_id")}
        return values

    @property
    def specific_params(self) -> dict[str, Any]:
        """The parameters, as a new dict that belongs to the caller."""
        parsed: dict[str, Any] = from_json(self.specific_params_json)
        return parsed

    @property
    def created_at(self) -> datetime:
        return datetime.fromtimestamp(self.creation_timestamp_utc / 1000, UTC)

    def to_record(self) -> dict[str, Any]:
        """Return a new dict of the fifteen fields in the order of the schema, with lists where this has tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.items()}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with the fields named changed, checked like any other. Raises ScenarioInvalid."""
        return self.read({**self, **changes})
