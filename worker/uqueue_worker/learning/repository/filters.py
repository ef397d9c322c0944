"""What a search may ask for. Everything is checked here, and everything unknown is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.scenario import Complexity, epoch_ms
from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository.content import storable

Operator = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "exists", "contains"]
_ORDERED = ("lt", "le", "gt", "ge")
_PREFIX = "specific_params."
_MAX_CHOICES = 50
MAX_LIMIT = 500


def _plain(value: str) -> str:
    if "\x00" in value:
        raise ValueError("expected text without NUL characters")
    value.encode()
    return value


def _moment(value: Any) -> Any:
    """Return what creation times may be given as: milliseconds, a datetime or ISO 8601 text."""
    return None if value is None else datetime.fromtimestamp(epoch_ms(value) / 1000, UTC)


def _many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _json(value: Any) -> Any:
    try:
        return storable(value)
    except ScenarioInvalid as error:
        raise ValueError(error.facts["reason"].removeprefix("specific_params: ")) from None


Words = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_plain)]
Tags = Annotated[tuple[Words, ...], BeforeValidator(_many), Field(max_length=50)]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Json = Annotated[Any, BeforeValidator(_json)]
Seconds = Annotated[float | None, Field(ge=0)]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class TagFilter(_Asked):
    """Tags of which a scenario has all, at least one, and none."""

    all: Tags = ()
    any: Tags = ()
    none: Tags = ()


class Comparison(_Asked):
    """One parameter against a value.

    path  segments of letters, digits and underscores, joined by dots; a number counts the elements of a list from 0
    op    eq and ne compare any JSON value; lt, le, gt and ge numbers; `in` takes a list of values; `exists` true or
          false; `contains` holds for a list with that element, and for an object with those parts
    """

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,15}$", max_length=500)]
    op: Operator = "eq"
    value: Json = None

    @property
    def segments(self) -> list[str]:
        return self.path.removeprefix(_PREFIX).split(".")

    @model_validator(mode="after")
    def _fitting(self) -> Comparison:
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if self.op in _ORDERED and not number:
            raise ValueError(f"{self.op} compares numbers")
        if self.op == "exists" and not isinstance(self.value, bool):
            raise ValueError("exists takes true or false")
        if self.op == "in" and not (isinstance(self.value, list) and 0 < len(self.value) <= _MAX_CHOICES):
            raise ValueError(f"in takes a list of 1 to {_MAX_CHOICES} values")
        return self


class Filters(_Asked):
    """What scenarios must fulfil, all of it.

    archived, draft  False leaves those out (the default), True returns only those, None both kinds
    parent           id of the scenario that they are variations of
    contains         JSON object that the parameters contain
    """

    category: Words | None = None
    difficulty: Annotated[tuple[Complexity, ...], BeforeValidator(_many)] = ()
    duration_min_seconds: Seconds = None
    duration_max_seconds: Seconds = None
    created_after: Moment = None
    created_before: Moment = None
    updated_after: Moment = None
    updated_before: Moment = None
    author: Words | None = None
    parent: Words | None = None
    weak_spot_id: Words | None = None
    class_label: Words | None = None
    sensor_type: Words | None = None
    tags: Annotated[TagFilter, BeforeValidator(lambda given: {"all": given} if _listed(given) else given)] = TagFilter()
    parameters: Annotated[tuple[Comparison, ...], Field(max_length=20)] = ()
    contains: Json = None
    archived: bool | None = False
    draft: bool | None = False

    @model_validator(mode="after")
    def _object(self) -> Filters:
        if self.contains is not None and not isinstance(self.contains, dict):
            raise ValueError("contains: expected an object")
        return self


def _listed(given: Any) -> bool:
    return isinstance(given, str | list | tuple)


def read_filters(given: Mapping[str, Any] | Filters | None) -> Filters:
    """Return checked filters. Raises ScenarioInvalid naming everything that is wrong."""
    if isinstance(given, Filters):
        return given
    try:
        return Filters.model_validate(dict(given or {}))
    except (TypeError, ValueError) as error:
        told = problems_of(error) if isinstance(error, ValidationError) else "expected a mapping"
        raise ScenarioInvalid(reason=f"filters: {told}") from None
