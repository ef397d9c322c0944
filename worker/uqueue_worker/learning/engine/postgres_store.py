"""A run store in PostgreSQL: every method is a transaction of its own. Loaded only where a database is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from uqueue_config.learning.references import ScenarioRef
from uqueue_config.learning.runs import CycleRecord, CycleState, DatasetEntry, RunRecord, RunStatus
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import State, read_suggestion
from uqueue_worker.learning.engine.parts import Part, PartResult
from uqueue_worker.learning.engine.rows import cycle_row, dataset_row, run_row, suggestion_row, use_row
from uqueue_worker.learning.engine.store import (
    AnySuggestion,
    DeadLetter,
    Opened,
    PartTime,
    RunPlace,
    ScenarioUse,
    Transition,
)
from uqueue_worker.learning.errors import RunNotFound
from uqueue_worker.learning.repository.connection import Connection, Database

_INSERT_RUN = """
insert into simulation.alm_runs (run_id, idempotency_key, status, cycle, state, stop_reason, configuration, config_hash,
    random_seed, metrics, record, revision, created_at, updated_at)
values (%(run_id)s, %(idempotency_key)s, %(status)s, %(cycle)s, %(state)s, %(stop_reason)s, %(configuration)s,
    %(config_hash)s, %(random_seed)s, %(metrics)s, %(record)s, %(revision)s, %(created_at)s, %(updated_at)s)
on conflict do nothing
"""
_UPDATE_RUN = """
update simulation.alm_runs set status = %(status)s, cycle = %(cycle)s, state = %(state)s,
    stop_reason = %(stop_reason)s, metrics = %(metrics)s, record = %(record)s, revision = %(revision)s,
    updated_at = %(updated_at)s
where run_id = %(run_id)s and revision = %(revision)s - 1
"""
_PUT_CYCLE = """
insert into simulation.alm_cycles (run_id, cycle, state, stop_reason, metrics, seeds, record)
values (%(run_id)s, %(cycle)s, %(state)s, %(stop_reason)s, %(metrics)s, %(seeds)s, %(record)s)
on conflict (run_id, cycle) do update set state = excluded.state, stop_reason = excluded.stop_reason,
    metrics = excluded.metrics, seeds = excluded.seeds, record = excluded.record
"""
_ADD_SPOT = """
insert into simulation.alm_weak_spots (run_id, cycle, weakness_id, type, priority, record)
values (%s, %s, %s, %s, %s, %s) on conflict do nothing
"""
_ADD_SUGGESTION = """
insert into simulation.alm_suggestions (suggestion_id, run_id, cycle, place, kind, state, record)
values (%(suggestion_id)s, %(run_id)s, %(cycle)s, %(place)s, %(kind)s, %(state)s, %(record)s) on conflict do nothing
"""
_ADD_DATASET = """
insert into simulation.alm_datasets (run_id, name, place, role, cycle, path, fingerprint, schema_fingerprint, samples,
    rejected, record)
values (%(run_id)s, %(name)s,
    (select count(*) from simulation.alm_datasets where run_id = %(run_id)s),
    %(role)s, %(cycle)s, %(path)s, %(fingerprint)s, %(schema_fingerprint)s, %(samples)s, %(rejected)s, %(record)s)
on conflict do nothing
"""
_ADD_USE = """
insert into simulation.alm_scenario_uses (run_id, cycle, weakness_id, scenario_id, scenario_version, dataset, samples)
values (%(run_id)s, %(cycle)s, %(weakness_id)s, %(scenario_id)s, %(scenario_version)s, %(dataset)s, %(samples)s)
on conflict do nothing
"""
_ADD_PART = """
insert into simulation.alm_parts (run_id, cycle, state, key, place, kind, payload)
values (%s, %s, %s, %s,
    (select count(*) from simulation.alm_parts where run_id = %s and cycle = %s and state = %s), %s, %s)
on conflict do nothing
"""
_OPEN_PART: LiteralString = "where run_id = %s and cycle = %s and state = %s and key = %s and result is null"
_PART_TIMES = """
select cycle, kind, started_at as started_at_utc, finished_at as finished_at_utc, tries, (result->>'ok')::boolean as ok,
    case when kind = 'generate' then coalesce((result->>'n')::integer, 0) + coalesce((result->>'rejected')::integer, 0)
    end as samples
from simulation.alm_parts where run_id = %s order by cycle, state, place
"""
_BEGIN_STEP = """
insert into simulation.alm_steps as step (run_id, cycle, state, attempts) values (%s, %s, %s, 1)
on conflict (run_id, cycle, state) do update set attempts = step.attempts + 1
returning attempts
"""
_END_STEP = "update simulation.alm_steps set attempts = 0 where run_id = %s and cycle = %s and state = %s"
_LOCK_STEP = "select 1 from simulation.alm_steps where run_id = %s and cycle = %s and state = %s for update"


class PostgresRunStore:
    """All that `RunStore` promises, for any number of processes. `uqueue learn migrate` makes the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_run(self, run: RunRecord) -> RunRecord:
        def work(connection: Connection) -> RunRecord:
            connection.execute(_INSERT_RUN, run_row(run))
            stored = connection.execute(
                "select record from simulation.alm_runs where run_id = %s or idempotency_key = %s "
                "order by idempotency_key = %s desc nulls last limit 1",
                [run.run_id, run.idempotency_key, run.idempotency_key],
            ).fetchone()
            assert stored is not None  # noqa: S101 - the row is there, by this statement or an earlier one
            return RunRecord.model_validate(stored["record"])

        return self._database.write(work)

    def get_run(self, run_id: str) -> RunRecord:
        rows = self._rows("select record from simulation.alm_runs where run_id = %s", [run_id])
        if not rows:
            raise RunNotFound(run_id=run_id[:200])
        return RunRecord.model_validate(rows[0]["record"])

    def list_runs(
        self, statuses: Sequence[RunStatus] = (), limit: int = 50, after: RunPlace | None = None
    ) -> list[RunRecord]:
        following: LiteralString = "and (created_at, run_id) < (%s, %s) " if after else ""
        rows = self._rows(
            f"select record from simulation.alm_runs where (%s or status = any(%s)) {following}"  # noqa: S608 - literals
            "order by created_at desc, run_id desc limit %s",
            [not statuses, list(statuses), *(after or ()), limit],
        )
        return [RunRecord.model_validate(row["record"]) for row in rows]

    def stale_runs(self, before: datetime, limit: int = 50) -> list[str]:
        rows = self._rows(
            "select run_id from simulation.alm_runs where status in ('pending', 'running', 'cancelling') "
            "and updated_at < %s order by updated_at, run_id limit %s",
            [before, limit],
        )
        return [row["run_id"] for row in rows]

    @contextmanager
    def lock(self, run_id: str) -> Iterator[bool]:
        with self._database.holding(f"alm_run:{run_id}") as held:
            yield held

    def commit(self, transition: Transition) -> bool:
        run = transition.run

        def work(connection: Connection) -> bool:
            if connection.execute(_UPDATE_RUN, run_row(run)).rowcount == 0:
                if connection.execute("select 1 from simulation.alm_runs where run_id = %s", [run.run_id]).fetchone():
                    return False
                raise RunNotFound(run_id=run.run_id[:200])
            _add(connection, transition)
            return True

        return self._database.write(work)

    def get_cycle(self, run_id: str, cycle: int) -> CycleRecord | None:
        rows = self._rows("select record from simulation.alm_cycles where run_id = %s and cycle = %s", [run_id, cycle])
        return CycleRecord.model_validate(rows[0]["record"]) if rows else None

    def cycles(self, run_id: str) -> list[CycleRecord]:
        rows = self._rows("select record from simulation.alm_cycles where run_id = %s order by cycle", [run_id])
        return [CycleRecord.model_validate(row["record"]) for row in rows]

    def spots(self, run_id: str, cycle: int | None = None) -> list[tuple[int, WeakSpot]]:
        rows = self._rows(
            "select cycle, record from simulation.alm_weak_spots where run_id = %s "
            'and (%s::integer is null or cycle = %s) order by cycle, priority desc, weakness_id collate "C"',
            [run_id, cycle, cycle],
        )
        return [(row["cycle"], WeakSpot.model_validate(row["record"])) for row in rows]

    def suggestions(self, run_id: str, cycle: int | None = None) -> list[tuple[int, AnySuggestion]]:
        rows = self._rows(
            "select cycle, record from simulation.alm_suggestions where run_id = %s "
            "and (%s::integer is null or cycle = %s) order by cycle, place",
            [run_id, cycle, cycle],
        )
        return [(row["cycle"], read_suggestion(row["record"])) for row in rows]

    def find_suggestion(self, suggestion_id: str) -> tuple[str, int, AnySuggestion] | None:
        rows = self._rows(
            "select run_id, cycle, record from simulation.alm_suggestions where suggestion_id = %s", [suggestion_id]
        )
        return (rows[0]["run_id"], rows[0]["cycle"], read_suggestion(rows[0]["record"])) if rows else None

    def move_suggestion(self, suggestion_id: str, expected: State, state: State) -> bool:
        def work(connection: Connection) -> bool:
            done = connection.execute(
                "update simulation.alm_suggestions "
                "set state = %s, record = record || jsonb_build_object('state', %s::text) "
                "where suggestion_id = %s and state = %s",
                [state, state, suggestion_id, expected],
            )
            return done.rowcount == 1

        return self._database.write(work)

    def change_suggestion(
        self, suggestion_id: str, change: Callable[[AnySuggestion], AnySuggestion]
    ) -> AnySuggestion | None:
        def work(connection: Connection) -> AnySuggestion | None:
            row = connection.execute(
                "select record from simulation.alm_suggestions where suggestion_id = %s for update", [suggestion_id]
            ).fetchone()
            if row is None:
                return None
            changed = change(read_suggestion(row["record"]))
            connection.execute(
                "update simulation.alm_suggestions set state = %s, record = %s where suggestion_id = %s",
                [changed.state, Jsonb(changed.model_dump(mode="json")), suggestion_id],
            )
            return changed

        return self._database.write(work)

    def uses(self, run_id: str) -> list[ScenarioUse]:
        return self._uses(run_id, None)

    def uses_of_scenario(self, scenario_id: str) -> list[ScenarioUse]:
        return self._uses(None, scenario_id)

    def datasets(self, run_id: str) -> list[DatasetEntry]:
        rows = self._rows("select record from simulation.alm_datasets where run_id = %s order by place, name", [run_id])
        return [DatasetEntry.model_validate(row["record"]) for row in rows]

    def add_dataset(self, run_id: str, entry: DatasetEntry) -> bool:
        row = dataset_row(run_id, entry)
        return self._database.write(lambda connection: connection.execute(_ADD_DATASET, row).rowcount == 1)

    def open_parts(self, parts: Sequence[Part]) -> Opened:
        first = parts[0]
        step = [first.run_id, first.cycle, first.state]

        def work(connection: Connection) -> Opened:
            connection.execute(
                "insert into simulation.alm_steps (run_id, cycle, state) values (%s, %s, %s) on conflict do nothing",
                step,
            )
            connection.execute(_LOCK_STEP, step)
            for part in parts:
                row = [*step, part.key, *step, part.kind, Jsonb(part.payload)]
                if connection.execute(_ADD_PART, row).rowcount:
                    _count_open(connection, step, 1)
            return _opened(connection, step)

        return self._database.write(work)

    def parts(self, run_id: str, cycle: int, state: CycleState) -> Opened:
        return self._database.read(lambda connection: _opened(connection, [run_id, cycle, state]))

    def get_part(self, run_id: str, cycle: int, state: CycleState, key: str) -> PartResult | None:
        rows = self._rows(
            "select * from simulation.alm_parts where run_id = %s and cycle = %s and state = %s and key = %s",
            [run_id, cycle, state, key],
        )
        return _part_result(rows[0]) if rows else None

    def begin_part(self, part: Part) -> None:
        self._note(
            "set started_at = case when waits then started_at else %s end, "
            "tries = tries + (not waits)::integer, waits = false",
            [datetime.now(UTC)],
            part,
        )

    def pause_part(self, part: Part) -> None:
        self._note("set waits = true", [], part)

    def part_times(self, run_id: str) -> list[PartTime]:
        rows = self._rows(_PART_TIMES, [run_id])
        return [PartTime(**{**row, "samples": row["samples"] or 0}) for row in rows]

    def _note(self, change: LiteralString, values: Sequence[Any], part: Part) -> None:
        statement: LiteralString = f"update simulation.alm_parts {change} {_OPEN_PART}"
        row = [*values, part.run_id, part.cycle, part.state, part.key]
        self._database.write(lambda connection: connection.execute(statement, row).rowcount)

    def begin_step(self, run_id: str, cycle: int, state: CycleState) -> int:
        def work(connection: Connection) -> int:
            row = connection.execute(_BEGIN_STEP, [run_id, cycle, state]).fetchone()
            return 1 if row is None else int(row["attempts"])

        return self._database.write(work)

    def end_step(self, run_id: str, cycle: int, state: CycleState) -> None:
        self._database.write(lambda connection: connection.execute(_END_STEP, [run_id, cycle, state]).rowcount)

    def finish_part(self, part: Part, result: dict[str, Any]) -> int | None:
        step = [part.run_id, part.cycle, part.state]

        def work(connection: Connection) -> int | None:
            connection.execute(_LOCK_STEP, step)
            done = connection.execute(
                "update simulation.alm_parts set result = %s, finished_at = %s "
                "where run_id = %s and cycle = %s and state = %s and key = %s and result is null",
                [Jsonb(result), datetime.now(UTC), *step, part.key],
            )
            return _count_open(connection, step, -1) if done.rowcount else None

        return self._database.write(work)

    def reopen_failed_parts(self, run_id: str, cycle: int, state: CycleState) -> int:
        step = [run_id, cycle, state]

        def work(connection: Connection) -> int:
            connection.execute(_LOCK_STEP, step)
            failed = connection.execute(
                "update simulation.alm_parts set result = null, finished_at = null "
                "where run_id = %s and cycle = %s and state = %s and result is not null "
                "and not coalesce((result->>'ok')::boolean, false)",
                step,
            ).rowcount
            _count_open(connection, step, failed)
            return failed

        return self._database.write(work)

    def add_dead_letter(self, letter: DeadLetter) -> None:
        row = [letter.run_id, letter.cycle, letter.state, letter.key, letter.kind, Jsonb(letter.error)]
        statement = "insert into simulation.alm_dead_letters values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing"
        self._database.write(lambda connection: connection.execute(statement, [*row, letter.failed_at_utc]).rowcount)

    def dead_letters(self, run_id: str | None = None, limit: int = 100) -> list[DeadLetter]:
        rows = self._rows(
            "select * from simulation.alm_dead_letters where %s::text is null or run_id = %s "
            "order by failed_at desc limit %s",
            [run_id, run_id, limit],
        )
        return [
            DeadLetter(**{k: v for k, v in row.items() if k != "failed_at"}, failed_at_utc=row["failed_at"])
            for row in rows
        ]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        return self._database.read(lambda connection: connection.execute(statement, values).fetchall())

    def _uses(self, run_id: str | None, scenario_id: str | None) -> list[ScenarioUse]:
        rows = self._rows(
            "select * from simulation.alm_scenario_uses where run_id = %s or scenario_id = %s "
            'order by run_id collate "C", cycle, scenario_id collate "C", weakness_id collate "C"',
            [run_id, scenario_id],
        )
        return [
            ScenarioUse(
                row["run_id"],
                row["cycle"],
                row["weakness_id"] or None,
                ScenarioRef(id=row["scenario_id"], version=row["scenario_version"]),
                row["dataset"],
                row["samples"],
            )
            for row in rows
        ]


def _add(connection: Connection, transition: Transition) -> None:
    run_id, number = transition.run.run_id, transition.spots_cycle
    for cycle in transition.cycles:
        connection.execute(_PUT_CYCLE, cycle_row(cycle))
    for spot in transition.spots:
        record = Jsonb(spot.model_dump(mode="json"))
        connection.execute(_ADD_SPOT, [run_id, number, spot.weakness_id, spot.type, spot.priority, record])
    for place, suggestion in enumerate(transition.suggestions):
        connection.execute(_ADD_SUGGESTION, suggestion_row(run_id, number, place, suggestion))
    for dataset in transition.datasets:
        connection.execute(_ADD_DATASET, dataset_row(run_id, dataset))
    for use in transition.uses:
        connection.execute(_ADD_USE, use_row(use))


def _count_open(connection: Connection, step: Sequence[Any], change: int) -> int:
    row = connection.execute(
        "update simulation.alm_steps set open_parts = open_parts + %s "
        "where run_id = %s and cycle = %s and state = %s returning open_parts",
        [change, *step],
    ).fetchone()
    return 0 if row is None else int(row["open_parts"])


def _opened(connection: Connection, step: Sequence[Any]) -> Opened:
    rows = connection.execute(
        "select * from simulation.alm_parts where run_id = %s and cycle = %s and state = %s order by place", step
    ).fetchall()
    found = tuple(_part_result(row) for row in rows)
    return Opened(found, sum(one.result is None for one in found))


def _part_result(row: dict[str, Any]) -> PartResult:
    part = Part(row["run_id"], row["cycle"], row["state"], row["key"], row["kind"], row["payload"])
    return PartResult(part, row["result"])
