"""From checked filters to SQL: fixed pieces of text, with every value bound beside them."""

# ruff: noqa: S608 - statements are joined from literals of this package; every value is bound

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.repository.filters import Comparison, Filters
from uqueue_worker.learning.repository.identity import key_of
from uqueue_worker.learning.repository.paging import Request
from uqueue_worker.learning.repository.terms import Term, alternatives

COLUMNS: LiteralString = (
    "scenario_id, scenario_class_module, scenario_class_name, description, category, name, difficulty_level, "
    "expected_duration_seconds, specific_params, tags, version, created_at, updated_at, external_id, "
    "scenario_instance_id, author, updated_by, content_hash, behaviour_hash, parent_scenario_id, "
    "related_scenario_ids, originating_weak_spot_ids, origin, archived_at"
)
TABLE: LiteralString = "simulation.scenario_definitions"
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
    where, values = _joined(_conditions(filters))
    sql: LiteralString = (
        f"select {COLUMNS} from {TABLE} where {where} order by updated_at desc, scenario_id desc limit %s"
    )
    return Statement(sql, [*values, limit])


def page(request: Request) -> Statement:
    """Return the query for a page and one row more; each row has its `rank`."""
    return _unranked(request) if request.query is None else _ranked(request, request.query)


def _unranked(request: Request) -> Statement:
    pieces = list(_conditions(request.filters))
    if request.after is not None:
        pieces.append(("(updated_at, scenario_id) < (%s, %s)", [request.after.updated_at, request.after.key]))
    where, values = _joined(pieces)
    sql: LiteralString = (
        f"select {COLUMNS}, 0::real as rank from {TABLE} where {where} "
        "order by updated_at desc, scenario_id desc limit %s"
    )
    return Statement(sql, [*values, request.limit + 1])


def _ranked(request: Request, query: str) -> Statement:
    """Rank what answers the query, and read the whole rows of the page only."""
    asked, words = text_query(query)
    where, values = _joined([(f"search_vector @@ ({asked})", words), *_conditions(request.filters)])
    after: LiteralString = "true"
    position: list[Any] = []
    if request.after is not None:
        after = "(rank, updated_at, scenario_id) < (%s::real, %s, %s)"
        position = [request.after.rank, request.after.updated_at, request.after.key]
    sql: LiteralString = (
        f"with found as (select scenario_id, updated_at, ts_rank_cd(search_vector, {asked}) as rank "
        f"from {TABLE} where {where}), "
        f"shown as (select scenario_id, rank from found where {after} "
        "order by rank desc, updated_at desc, scenario_id desc limit %s) "
        f"select {COLUMNS}, rank from shown join {TABLE} using (scenario_id) "
        "order by rank desc, updated_at desc, scenario_id desc"
    )
    return Statement(sql, [*words, *values, *position, request.limit + 1])


def text_query(query: str) -> Piece:
    """Return an expression of type tsquery: name, tags and category hold words as they are, descriptions their stems.

    Each term is asked for in both forms, so that a negated one excludes both. Words too common for the English
    dictionary are left out.
    """
    groups = alternatives(query)
    if not groups:
        return "''::tsquery", []
    joined = [_all(group) for group in groups]
    sql: LiteralString = " || ".join([one for one, _ in joined])
    return sql, [value for _, values in joined for value in values]


def _all(group: list[Term]) -> Piece:
    positive: LiteralString = (
        "case when numnode(phraseto_tsquery('pg_catalog.english', %s)) = 0 then ''::tsquery else "
        "phraseto_tsquery('pg_catalog.simple', %s) || phraseto_tsquery('pg_catalog.english', %s) end"
    )
    pieces: list[LiteralString] = [f"!!({positive})" if term.negated else f"({positive})" for term in group]
    values = [" ".join(term.words) for term in group for _ in range(3)]
    sql: LiteralString = " && ".join(pieces)
    return f"({sql})", values


def _joined(pieces: Any) -> Piece:
    listed: list[Piece] = list(pieces)
    texts: list[LiteralString] = [text for text, _ in listed]
    sql: LiteralString = " and ".join(texts) if texts else "true"
    return sql, [value for _, values in listed for value in values]


def _conditions(filters: Filters) -> Iterator[Piece]:
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
        yield from _ranged(asked)
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
    if not any(segment.isdigit() for segment in asked.segments):
        compared: LiteralString = "<=" if asked.op in ("lt", "le") else ">="
        chosen: LiteralString = (
            f"select scenario_id from simulation.scenario_numbers where path = %s and value {compared} %s"
        )
        yield f"scenario_id in ({chosen})", [".".join(asked.segments), float(asked.value)]


def _nested(path: list[str], value: Any) -> Any:
    for segment in reversed(path):
        value = {segment: value}
    return value
