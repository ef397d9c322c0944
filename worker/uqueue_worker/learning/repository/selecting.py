"""From checked filters to SQL: fixed pieces of text, with every value bound beside them."""

# ruff: noqa: S608 - statements are joined from literals of this package; every value is bound

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.repository.filters import Comparison, Filters
from uqueue_worker.learning.repository.identity import key_of
from uqueue_worker.learning.repository.paging import Request

COLUMNS: LiteralString = (
    "scenario_id, scenario_class_module, scenario_class_name, description, category, name, difficulty_level, "
    "expected_duration_seconds, specific_params, tags, version, created_at, updated_at, external_id, "
    "scenario_instance_id, author, updated_by, content_hash, behaviour_hash, parent_scenario_id, "
    "related_scenario_ids, originating_weak_spot_ids, origin, archived_at"
)
TABLE: LiteralString = "simulation.scenario_definitions"
ALL_RANKED: LiteralString = "null::timestamptz as oldest_at, null::uuid as oldest_key"
_ORDER: dict[str, LiteralString] = {
    "lt": "strict $ ? (@ < $value)",
    "le": "strict $ ? (@ <= $value)",
    "gt": "strict $ ? (@ > $value)",
    "ge": "strict $ ? (@ >= $value)",
}
Piece = tuple[LiteralString, list[Any]]


@dataclass(frozen=True)
class Statement:
    """A query and the values of its placeholders."""

    sql: LiteralString
    values: list[Any]


def latest(filters: Filters, limit: int) -> Statement:
    """Return the query for scenarios that fulfil the filters, the latest update first."""
    where, values = joined(conditions(filters))
    sql: LiteralString = (
        f"select {COLUMNS} from {TABLE} where {where} order by updated_at desc, scenario_id desc limit %s"
    )
    return Statement(sql, [*values, limit])


def page(request: Request) -> Statement:
    """Return the query for a page and one row more of a search without words; `ranking` has those with words."""
    pieces = list(conditions(request.filters))
    if request.after is not None:
        pieces.append(("(updated_at, scenario_id) < (%s, %s)", list(request.after.place)))
    where, values = joined(pieces)
    sql: LiteralString = (
        f"select {COLUMNS}, 0::real as rank, {ALL_RANKED} from {TABLE} where {where} "
        "order by updated_at desc, scenario_id desc limit %s"
    )
    return Statement(sql, [*values, request.limit + 1])


def joined(pieces: Any) -> Piece:
    """Return conditions that must all hold."""
    listed: list[Piece] = list(pieces)
    texts: list[LiteralString] = [text for text, _ in listed]
    sql: LiteralString = " and ".join(texts) if texts else "true"
    return sql, [value for _, values in listed for value in values]


def conditions(filters: Filters, unhelpful: Sequence[Comparison] = ()) -> Iterator[Piece]:
    """Yield what the filters ask for. The index on numbers is not asked for ranges that are `unhelpful`."""
    if filters.archived is not None:
        yield ("archived_at is not null" if filters.archived else "archived_at is null"), []
    if filters.draft is not None:
        yield ("origin @> %s" if filters.draft else "not origin @> %s"), [Jsonb({"draft": True})]
    yield from _equalities(filters)
    yield from _ranges(filters)
    yield from _tags(filters)
    if filters.contains is not None:
        yield "specific_params @> %s", [Jsonb(filters.contains)]
    for asked in filters.parameters:
        if asked.op in _ORDER and asked not in unhelpful:
            yield from _ranged(asked)
        yield from _comparison(asked)


def _equalities(filters: Filters) -> Iterator[Piece]:
    if filters.category is not None:
        yield "category = %s", [filters.category]
    if filters.author is not None:
        yield "author = %s", [filters.author]
    if filters.difficulty:
        yield "coalesce(difficulty_level, 'MEDIUM') = any(%s)", [list(filters.difficulty)]
    if filters.parent is not None:
        yield "parent_scenario_id = %s", [key_of(filters.parent)]
    if filters.weak_spot_id is not None:
        yield "originating_weak_spot_ids @> %s::text[]", [[filters.weak_spot_id]]


def _ranges(filters: Filters) -> Iterator[Piece]:
    if filters.duration_min_seconds is not None:
        yield "expected_duration_seconds >= %s", [filters.duration_min_seconds]
    if filters.duration_max_seconds is not None:
        yield "expected_duration_seconds <= %s", [filters.duration_max_seconds]
    if filters.created_after is not None:
        yield "created_at >= %s", [filters.created_after]
    if filters.created_before is not None:
        yield "created_at <= %s", [filters.created_before]
    if filters.updated_after is not None:
        yield "updated_at >= %s", [filters.updated_after]
    if filters.updated_before is not None:
        yield "updated_at <= %s", [filters.updated_before]


def _tags(filters: Filters) -> Iterator[Piece]:
    """Operators of arrays use the index on tags; `x = any(tags)` would read all rows."""
    if filters.tags.all:
        yield "tags @> %s::text[]", [list(filters.tags.all)]
    if filters.tags.any:
        yield "tags && %s::text[]", [list(filters.tags.any)]
    if filters.class_label is not None:
        yield "tags && %s::text[]", [tags.class_forms(filters.class_label)]
    if filters.sensor_type is not None:
        yield "tags && %s::text[]", [tags.sensor_forms(filters.sensor_type)]
    if filters.tags.none:
        yield "not tags && %s::text[]", [list(filters.tags.none)]


def _comparison(asked: Comparison) -> Iterator[Piece]:
    path = asked.segments
    if asked.op == "exists":
        text: LiteralString = "is not null" if asked.value else "is null"
        yield f"specific_params #> %s::text[] {text}", [path]
    elif asked.op in _ORDER:
        sql: LiteralString = f"jsonb_path_exists(specific_params #> %s::text[], '{_ORDER[asked.op]}', %s, true)"
        yield sql, [path, Jsonb({"value": asked.value})]
    elif asked.op == "ne":
        yield "specific_params #> %s::text[] <> %s", [path, Jsonb(asked.value)]
    elif asked.op == "in":
        yield from _indexed(path, asked.value)
        yield "specific_params #> %s::text[] = any(%s::jsonb[])", [path, [Jsonb(one) for one in asked.value]]
    elif asked.op == "contains":
        yield from _indexed(path, [asked.value, [asked.value]])
        held: LiteralString = "(specific_params #> %s::text[] @> %s or specific_params #> %s::text[] @> %s)"
        yield held, [path, Jsonb(asked.value), path, Jsonb([asked.value])]
    else:
        yield from _indexed(path, [asked.value])
        yield "specific_params #> %s::text[] = %s", [path, Jsonb(asked.value)]


def _indexed(path: list[str], values: list[Any]) -> Iterator[Piece]:
    """Narrow the rows by the index on parameters, which knows containment only. Elements of lists it cannot count."""
    if not any(segment.isdigit() for segment in path):
        sql: LiteralString = " or ".join(["specific_params @> %s"] * len(values))
        yield f"({sql})", [Jsonb(_nested(path, value)) for value in values]


def _ranged(asked: Comparison) -> Iterator[Piece]:
    """Narrow the rows by the index on numbers. It has them as doubles, so the bound itself stays in."""
    if _counted(asked):
        chosen, values = numbers_within(asked)
        yield f"scenario_id in ({chosen})", values


def ranges(filters: Filters) -> list[Comparison]:
    """Return the comparisons that the index on numbers knows. Elements of lists it does not have."""
    return [asked for asked in filters.parameters if asked.op in _ORDER and _counted(asked)]


def numbers_within(asked: Comparison) -> Piece:
    """Return the query for the keys of scenarios whose number lies in a range."""
    compared: LiteralString = "<=" if asked.op in ("lt", "le") else ">="
    sql: LiteralString = f"select scenario_id from simulation.scenario_numbers where path = %s and value {compared} %s"
    return sql, [".".join(asked.segments), float(asked.value)]


def _counted(asked: Comparison) -> bool:
    return not any(segment.isdigit() for segment in asked.segments)


def _nested(path: list[str], value: Any) -> Any:
    for segment in reversed(path):
        value = {segment: value}
    return value
