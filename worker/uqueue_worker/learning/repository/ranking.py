"""Searching by words in PostgreSQL: the latest of the matches are ranked, so that common words are quick, too.

The statement `preparing` goes first in the transaction of a search.
"""

# ruff: noqa: S608 - statements are joined from literals of this package; every value is bound

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

from uqueue_worker.learning.repository.paging import Place, Request, most_ranked
from uqueue_worker.learning.repository.selecting import (
    ALL_RANKED,
    COLUMNS,
    TABLE,
    Piece,
    Statement,
    conditions,
    joined,
    numbers_within,
    ranges,
)
from uqueue_worker.learning.repository.terms import Term, alternatives

#: Scenarios in a range of parameters are counted up to here; more are no help to find the matches.
_MOST_IN_RANGE = 6000
_SAMPLE = 500
# What costs how much, in rows that are read one after the other: a row that an index on words or on numbers leads to,
# and comparing a parameter with a number.
_BY_WORDS, _BY_NUMBERS, _COMPARING = 2.3, 7.0, 2.0
_COSTS: LiteralString = (
    "set_config('random_page_cost', '1.1', true), set_config('enable_seqscan', 'off', true), "
    "set_config('max_parallel_workers_per_gather', '0', true)"
)


def preparing(request: Request) -> Statement:
    """Return what is asked first in the transaction: the words as a tsquery (`asked`); of a sample, how many scenarios
    the index on words would lead to (`candidates`) and how many match (`matching`); and for each range in the filters,
    how many scenarios it holds."""
    asked, words = text_query(request.query or "")
    loose, candidates = _candidates(request.query or "")
    every = ranges(request.filters)
    where, values = joined(conditions(request.filters, every))
    held: list[LiteralString] = []
    bounds: list[Any] = []
    for number, one in enumerate(every):
        within, bound = numbers_within(one)
        held.append(f", (select count(*) from ({within} limit %s) as held) as range_{number:d}")
        bounds += [*bound, _MOST_IN_RANGE + 1]
    sql: LiteralString = (
        f"with words as materialized (select {asked} as asked, {loose} as loose) "
        f"select {_COSTS}, (select asked::text from words) as asked, "
        f"(select reltuples from pg_class where oid = '{TABLE}'::regclass) as scenarios, count(*) as seen, "
        "count(*) filter (where coalesce(search_vector @@ loose, true)) as candidates, "
        f"count(*) filter (where search_vector @@ words.asked and {where}) as matching{''.join(held)} "
        f"from (select * from {TABLE} tablesample system (1) repeatable (0) limit %s) as sampled cross join words"
    )
    return Statement(sql, [*words, *candidates, *values, *bounds, _SAMPLE])


def page(request: Request, prepared: Mapping[str, Any]) -> Statement:
    """Return the query for a page and one row more: the ranked matches, or those behind them after one of those.

    Each row has its `rank`, and as `oldest_at` and `oldest_key` the oldest match that is ranked, null if all are.
    `prepared` is the row that `preparing` gave.
    """
    most = most_ranked(request.query or "")
    behind = request.after is not None and request.after.rank is None
    indexed, cost = _way(prepared, request.limit + 1 if behind else most)
    unhelpful = [
        asked
        for number, asked in enumerate(ranges(request.filters))
        if (held := prepared[f"range_{number}"]) > _MOST_IN_RANGE or held * _BY_NUMBERS > cost
    ]
    pieces = [_matching(prepared["asked"], indexed), *conditions(request.filters, unhelpful)]
    if request.after is not None and request.after.rank is None:
        return _behind(pieces, indexed, request.after.place, request.limit + 1)
    latest = _ranked_before(pieces, request.after.oldest_ranked) if request.after else _latest(pieces, indexed, most)
    return _ranked(request, prepared["asked"], latest)


def _way(prepared: Mapping[str, Any], wanted: int) -> tuple[bool, float]:
    """Say whether the index on words is quicker than reading the latest scenarios until enough of them match, and what
    the quicker way costs."""
    seen, scenarios = max(prepared["seen"], 1), max(prepared["scenarios"], 0.0)  # -1: nobody has counted them
    candidates = prepared["candidates"] / seen
    by_words = candidates * scenarios * _BY_WORDS
    reading = min(scenarios, wanted * seen / max(prepared["matching"], 0.5))
    indexed = bool(by_words <= reading)
    return indexed, by_words if indexed else reading * (1 + _COMPARING * candidates)


def _ranked(request: Request, asked: str, matches: Piece) -> Statement:
    latest, values = matches
    position: list[Any] = []
    after: LiteralString = "true"
    if request.after is not None:
        after = "(rank, updated_at, scenario_id) < (%s::real, %s, %s)"
        position = [request.after.rank, *request.after.place]
    sql: LiteralString = (
        f"with {latest}, "
        "found as (select latest.*, oldest.*, ts_rank_cd(search_vector, %s::tsquery) as rank "
        "from latest left join oldest on true "
        "where oldest_key is null or (updated_at, scenario_id) >= (oldest_at, oldest_key)), "
        f"shown as (select scenario_id, rank, oldest_at, oldest_key from found where {after} "
        "order by rank desc, updated_at desc, scenario_id desc limit %s) "
        f"select {COLUMNS}, rank, oldest_at, oldest_key from shown join {TABLE} using (scenario_id) "
        "order by rank desc, updated_at desc, scenario_id desc"
    )
    return Statement(sql, [*values, asked, *position, request.limit + 1])


def _latest(pieces: list[Piece], indexed: bool, most: int) -> Piece:
    """Return the latest matches and one more, and if there is one more, which is the oldest to be ranked."""
    matches, values = _in_order(pieces, indexed)
    sql: LiteralString = (
        f"{matches}, latest as materialized (select * from matches "
        "order by updated_at desc, scenario_id desc limit %s), "
        "oldest as (select updated_at as oldest_at, scenario_id as oldest_key from latest "
        "where (select count(*) from latest) > %s order by updated_at, scenario_id offset 1 limit 1)"
    )
    return sql, [*values, most + 1, most]


def _ranked_before(pieces: list[Piece], oldest: Place | None) -> Piece:
    """Return the matches that the page before ranked, and those that came since then."""
    bounds: list[Piece] = [] if oldest is None else [("(updated_at, scenario_id) >= (%s, %s)", list(oldest))]
    where, values = joined([*pieces, *bounds])
    sql: LiteralString = (
        f"latest as materialized (select scenario_id, updated_at, search_vector from {TABLE} where {where}), "
        "oldest as (select %s::timestamptz as oldest_at, %s::uuid as oldest_key)"
    )
    return sql, [*values, *(oldest or (None, None))]


def _behind(pieces: list[Piece], indexed: bool, after: Place, most: int) -> Statement:
    """Return the query for matches that are not ranked, by their latest update."""
    matches, values = _in_order([*pieces, ("(updated_at, scenario_id) < (%s, %s)", list(after))], indexed)
    sql: LiteralString = (
        f"with {matches}, shown as (select scenario_id from matches "
        "order by updated_at desc, scenario_id desc limit %s) "
        f"select {COLUMNS}, null::real as rank, {ALL_RANKED} from shown join {TABLE} using (scenario_id) "
        "order by updated_at desc, scenario_id desc"
    )
    return Statement(sql, [*values, most])


def _in_order(pieces: list[Piece], indexed: bool) -> Piece:
    """Return all matches as `matches`. Only what is not materialized is read in the order of the latest update."""
    where, values = joined(pieces)
    how: LiteralString = "materialized" if indexed else "not materialized"
    sql: LiteralString = f"matches as {how} (select scenario_id, updated_at, search_vector from {TABLE} where {where})"
    return sql, values


def _matching(asked: str, indexed: bool) -> Piece:
    """Return the condition for what matches; as a function, the index on words is not asked for it."""
    return ("search_vector @@ %s::tsquery" if indexed else "ts_match_vq(search_vector, %s::tsquery)"), [asked]


def _candidates(query: str) -> Piece:
    """Return what the index on words is asked for, which knows no order of words; null if it leads to everything."""
    if any(all(term.negated for term in group) for group in alternatives(query)):
        return "null::tsquery", []
    return text_query(query, loose=True)


def text_query(query: str, *, loose: bool = False) -> Piece:
    """Return an expression of type tsquery: name, tags and category hold words as they are, descriptions their stems.

    Each term is asked for in both forms, so that a negated one excludes both. Words too common for the English
    dictionary are left out. `loose` takes words in any order, and passes over negated ones.
    """
    groups = [[term for term in group if not (loose and term.negated)] for group in alternatives(query)]
    if not groups:
        return "''::tsquery", []
    terms = [_all(group, loose) for group in groups]
    sql: LiteralString = " || ".join([one for one, _ in terms])
    return sql, [value for _, values in terms for value in values]


def _all(group: list[Term], loose: bool) -> Piece:
    parsed: LiteralString = "plainto_tsquery" if loose else "phraseto_tsquery"
    meant: LiteralString = (
        "(select case when numnode(english) = 0 then ''::tsquery when simple = english then simple "
        f"else simple || english end from (select {parsed}('pg_catalog.english', words) as english, "
        f"{parsed}('pg_catalog.simple', words) as simple from (select %s::text as words) as given) as parsed)"
    )
    pieces: list[LiteralString] = [f"!!{meant}" if term.negated else meant for term in group]
    sql: LiteralString = " && ".join(pieces)
    return f"({sql})", [" ".join(term.words) for term in group]
