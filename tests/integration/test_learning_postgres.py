"""The repository's database: connections that break, migrations, rights, hostile rows, which index is used."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import conninfo
from psycopg.types.json import Jsonb

from builders.learning_scenarios import a_scenario
from builders.many_scenarios import COUNT, RARE_LABEL, RARE_SITE, RARE_WORD, load_many
from builders.postgres import kill_postgres, migrated_database, new_database, postgres_server
from builders.scenario_rows import a_definition
from uqueue_config.learning.settings import LearningSettings
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    RepositoryUnavailable,
    ScenarioInvalid,
    UnknownScenarioClass,
)
from uqueue_worker.learning.repository import database_of, migrate, postgres_repository, selecting
from uqueue_worker.learning.repository.connection import WRITE_RETRIES, Connection, Database
from uqueue_worker.learning.repository.embedded import EmbeddedPostgres, start_postgres
from uqueue_worker.learning.repository.filters import read_filters
from uqueue_worker.learning.repository.migrating import FOLDER, migrations
from uqueue_worker.learning.repository.migrating import migrate as migrate_folder
from uqueue_worker.learning.repository.paging import MOST_RANKED, Request, read_request
from uqueue_worker.learning.repository.postgres import _Rows
from uqueue_worker.learning.repository.selecting import Statement

NAMES = [one.name for one in migrations()]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with postgres_server() as started:
        yield started


@pytest.fixture
def empty(server: EmbeddedPostgres) -> Iterator[str]:
    with new_database(server) as dsn:
        yield dsn


@pytest.fixture
def dsn(server: EmbeddedPostgres) -> Iterator[str]:
    with migrated_database(server) as made:
        yield made


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    with Database(dsn) as opened:
        yield opened


def one(connection: Connection) -> Any:
    return connection.execute("select 1 as one").fetchone()


# --- connections


def test_nothing_is_connected_before_use_and_nothing_is_shared_over_a_fork(dsn: str) -> None:
    with Database(dsn) as database:
        assert database._slots == {}
        mine = database.read(lambda connection: connection.info.backend_pid)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                theirs = database.read(lambda connection: connection.info.backend_pid)
                database.close()
                os.write(writing, str(theirs).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        theirs = int(os.read(reading, 100))
        assert theirs != mine
        assert database.read(lambda connection: connection.info.backend_pid) == mine
        os.close(reading)
        os.close(writing)


def test_limits_and_name_reach_the_server_and_the_strings_own_win(dsn: str) -> None:
    names = ["statement_timeout", "lock_timeout", "application_name"]

    def shown(connection: Connection) -> list[str]:
        return [connection.execute(f"show {name}").fetchone()[name] for name in names]

    with Database(dsn) as database:
        assert database.read(shown) == ["5s", "2s", "uqueue-learning"]
    own = conninfo.make_conninfo(dsn, options="-c statement_timeout=7000", application_name="mine")
    with Database(own) as database:
        assert database.read(shown) == ["7s", "2s", "mine"]


def test_slow_statements_and_long_waits_end(dsn: str) -> None:
    with Database(dsn, statement_timeout_seconds=1, lock_timeout_seconds=0.1) as database:
        with pytest.raises(RepositoryUnavailable, match="longer than it may"):
            database.read(lambda connection: connection.execute("select pg_sleep(10)"))
        with database.transaction() as holder:
            holder.execute("lock table simulation.scenario_definitions")
            with pytest.raises(RepositoryUnavailable, match="held a lock"):
                database.write(lambda connection: connection.execute("lock table simulation.scenario_definitions"))


def test_a_read_is_tried_again_after_its_connection_was_lost_and_a_write_is_not(database: Database) -> None:
    calls: list[str] = []

    def lost_at_first(connection: Connection) -> int:
        calls.append("called")
        if len(calls) == 1:
            connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return len(calls)

    assert database.read(lost_at_first) == 2
    calls.clear()
    with pytest.raises(RepositoryUnavailable):
        database.write(lost_at_first)
    assert calls == ["called"]


def test_a_deadlock_is_resolved_by_trying_again(database: Database) -> None:
    database.write(lambda connection: connection.execute("create table places (id int primary key, visits int)"))
    database.write(lambda connection: connection.execute("insert into places values (1, 0), (2, 0)"))
    together, runs = threading.Barrier(2), []

    def visit(order: list[int]) -> None:
        def work(connection: Connection) -> None:
            runs.append(order)
            connection.execute("set local deadlock_timeout = '50ms'")
            for number in order:
                connection.execute("update places set visits = visits + 1 where id = %s", [number])
                if len(runs) <= 2 and number == order[0]:
                    together.wait(10)

        database.write(work)

    threads = [threading.Thread(target=visit, args=(order,)) for order in ([1, 2], [2, 1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 3 <= len(runs) <= 2 + WRITE_RETRIES
    found = database.read(lambda connection: connection.execute("select visits from places").fetchall())
    assert [row["visits"] for row in found] == [2, 2]


def test_what_never_succeeds_is_given_up(database: Database) -> None:
    calls: list[int] = []

    def collide(connection: Connection) -> None:
        calls.append(1)
        connection.execute("do $$ begin raise serialization_failure; end $$")

    with pytest.raises(RepositoryUnavailable):
        database.write(collide)
    assert len(calls) == 1 + WRITE_RETRIES


def test_a_lock_by_name_has_one_holder(database: Database) -> None:
    with database.holding("run/1") as first, database.holding("run/1") as second, database.holding("run/2") as other:
        assert (first, second, other) == (True, False, True)
    with database.holding("run/1") as again:
        assert again


def test_a_pool_that_is_used_up_says_so(dsn: str) -> None:
    with Database(dsn, max_connections=1, wait_seconds=0.2) as database, database.session():  # noqa: SIM117
        with pytest.raises(RepositoryUnavailable, match="none of its 1 connections became free"):
            database.read(one)


def test_a_crash_and_a_restart_of_the_server_are_survived() -> None:
    folder = Path(tempfile.mkdtemp(prefix="uqueue-restart-"))
    folder.chmod(0o755)
    try:
        with postgres_server(folder) as server, Database(server.dsn, wait_seconds=0.5) as database:
            migrate(server.dsn)
            repository = postgres_repository(database)
            repository.save_scenario_definition(a_definition())
            with database.session(), database.session():  # so that the pool holds several that will be dead
                pass
            kill_postgres(server)
            with pytest.raises(RepositoryUnavailable) as caught:
                repository.get_scenario_by_id("corona-1")
            assert caught.value.retryable
            assert "refused" in str(caught.value)
            with start_postgres(folder, port=server.port, durable=False) as again:
                assert again.dsn == server.dsn
                assert repository.update_scenario_definition("corona-1", {"name": "After"}) is True
                assert [entry["version"] for entry in repository.get_history("corona-1")] == [1, 2]
                kill_postgres(again)
                with start_postgres(folder, port=server.port, durable=False):  # killed while idle, read at once
                    assert repository.get_scenario_by_id("corona-1").name == "After"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SECRET = "s3cr3t-p4ssw0rd"


@pytest.mark.parametrize(
    "wrong",
    [
        f"postgresql://uqueue:{SECRET}@127.0.0.1:1/postgres",
        f"host=127.0.0.1 port=1 password={SECRET}",
        f"host=127.0.0.1 {SECRET} = = port=1",
        f"postgresql://uqueue:{SECRET}@127.0.0.1:notaport/postgres",
        f"postgresql://uqueue:{SECRET}@[::1/postgres",
        SECRET,
    ],
)
def test_no_password_is_told(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Database(wrong, wait_seconds=0.2) as database, pytest.raises(RepositoryUnavailable) as caught:
        database.read(one)
    told = [str(caught.value), repr(caught.value), repr(database), repr(vars(database)), caplog.text]
    told += [str(caught.value.__cause__), str(caught.value.to_wire())]
    assert not any(SECRET in text for text in told)


def test_a_refused_password_is_named_but_not_told(server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = conninfo.make_conninfo(server.dsn, password=SECRET)
    with Database(wrong, wait_seconds=0.2) as database:
        with pytest.raises(RepositoryUnavailable, match="password authentication failed"):
            database.read(one)
        assert SECRET not in caplog.text


def test_the_settings_name_the_database_and_its_file_is_read_at_each_connect(dsn: str, tmp_path: Path) -> None:
    with database_of(LearningSettings.load({"UQUEUE_LEARNING_DATABASE": dsn})) as database:
        assert database.read(one) == {"one": 1}
    file = tmp_path / "dsn"
    file.write_text("postgresql://nobody:wrong@127.0.0.1:1/x\n")
    with database_of(LearningSettings.load({"UQUEUE_LEARNING_DATABASE_FILE": str(file)}), wait_seconds=0.2) as database:
        with pytest.raises(RepositoryUnavailable):
            database.read(one)
        file.write_text(f"{dsn}\n")
        assert database.read(one) == {"one": 1}


# --- migrations and rights


def test_migrating_twice_does_nothing_and_a_dry_run_only_tells(empty: str) -> None:
    assert migrate(empty, dry_run=True) == NAMES
    with Database(empty) as database, pytest.raises(RepositoryUnavailable, match="uqueue learn migrate"):
        postgres_repository(database).get_scenario_by_id("x")
    assert migrate(empty) == NAMES
    assert migrate(empty) == []
    assert migrate(empty, dry_run=True) == []
    with psycopg.connect(empty) as connection:
        rows = connection.execute("select name, sha256 from simulation.schema_migrations order by version").fetchall()
    assert rows == [(one.name, one.sha256) for one in migrations()]


def test_of_many_who_migrate_at_once_one_does_it(empty: str) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(empty))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[], [], [], NAMES]


def test_a_changed_a_missing_and_a_failing_file_are_refused(empty: str, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER, folder)
    following = f"{int(NAMES[-1][:4]) + 1:04d}_more"
    more = folder / f"{following}.sql"
    more.write_text("create table simulation.more (id int); select 1 / 0;")
    with pytest.raises(ActiveLearningError, match=f"{following} failed and changed nothing: division by zero"):
        migrate_folder(empty, folder=folder)
    more.write_text("create table simulation.more (id int);")
    assert migrate_folder(empty, folder=folder) == [following]
    more.write_text("create table simulation.more (id bigint);")
    for dry_run in (True, False):
        with pytest.raises(ActiveLearningError, match=f"{following} was changed after it was applied"):
            migrate_folder(empty, dry_run, folder=folder)
    with pytest.raises(ActiveLearningError, match="newer version of uqueue"):
        migrate(empty)


@pytest.mark.parametrize("names", [["1_a.sql"], ["0001_a.sql", "0001_b.sql"], ["0001-a.sql"], ["0001_A b.sql"]])
def test_files_must_be_numbered(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("select 1")
    with pytest.raises(ValueError, match="expected a number of its own and a name"):
        migrations(tmp_path)


def test_each_role_may_do_its_part_only(server: EmbeddedPostgres, dsn: str) -> None:
    def signed_in(role: str) -> Database:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("drop role if exists somebody")
            connection.execute("create role somebody login password 'x'")
            connection.execute(f"grant {role} to somebody")
        return Database(conninfo.make_conninfo(dsn, user="somebody", password="x"))

    with signed_in("uqueue_learning_app") as database:
        repository = postgres_repository(database)
        repository.save_scenario_definition(a_definition())
        repository.update_scenario_definition("corona-1", {"name": "b", "specific_params.emf_strength_v_m": 60})
        assert repository.search(
            filters={"parameters": [{"path": "emf_strength_v_m", "op": "gt", "value": 59}]}
        ).scenarios
        for forbidden in (
            "delete from simulation.scenario_definitions",
            "update simulation.scenario_definition_history set reason = 'x'",
            "insert into simulation.schema_migrations values (9, 'x', 'x')",
            "create table simulation.mine (id int)",
        ):
            with pytest.raises(RepositoryUnavailable, match="permission denied"):
                database.write(lambda connection, sql=forbidden: connection.execute(sql))
    with signed_in("uqueue_learning_reader") as database:
        repository = postgres_repository(database)
        assert repository.get_scenario_by_id("corona-1").name == "b"
        with pytest.raises(RepositoryUnavailable, match="permission denied"):
            repository.save_scenario_definition(a_definition("other"))


# --- what others wrote into the tables


def insert(database: Database, **columns: Any) -> None:
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    statement = f"insert into simulation.scenario_definitions ({names}) values ({places})".encode()
    database.write(lambda connection: connection.execute(statement, list(columns.values())))


def test_a_row_that_names_a_module_is_data_and_nothing_is_imported(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_by_a_row.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    repository = postgres_repository(database)
    row = {"name": "Hostile", "scenario_class_module": "imported_by_a_row", "scenario_class_name": "System"}
    insert(database, external_id="hostile", tags=["class_X"], **row)
    found = repository.get_scenario_by_id("hostile")
    assert found.scenario_class_module == "imported_by_a_row"
    assert repository.get_scenarios_by_class_label("X") == [found]
    for work in (
        lambda: repository.create_scenario_variation(found, "_v", {}),
        lambda: repository.update_scenario_definition("hostile", {"name": "Other"}),
        lambda: repository.save_scenario_definition(found),
        lambda: a_scenario("CoronaDischarge").from_scenario_definition_dict(found),
    ):
        with pytest.raises(UnknownScenarioClass):
            work()
    assert "imported_by_a_row" not in sys.modules


def test_a_row_of_the_least_that_the_table_takes_is_read(database: Database) -> None:
    insert(database, name="Bare")
    (found,) = postgres_repository(database).search("bare").scenarios
    assert (found.name, found.category, found.difficulty_level, found.version) == ("Bare", "", "MEDIUM", 1)
    assert postgres_repository(database).update_scenario_definition(found.scenario_definition_id, {"author": "a"})
    assert postgres_repository(database).get_version(found.scenario_definition_id, 1) is None


def test_a_spoilt_row_hides_no_other(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    repository = postgres_repository(database)
    repository.save_scenario_definition(a_definition())
    insert(database, name="", external_id="spoilt", category="electrical_fault")
    assert [one.name for one in repository.get_scenarios_by_category("electrical_fault")] == ["A CoronaDischarge"]
    assert [one.name for one in repository.search(limit=1).scenarios] == ["A CoronaDischarge"]
    assert "left out: The scenario is not valid: name" in caplog.text
    with pytest.raises(ScenarioInvalid, match="name"):
        repository.get_scenario_by_id("spoilt")


def test_the_table_refuses_what_is_no_scenario(database: Database) -> None:
    for wrong in (
        {"name": None},
        {"name": "a", "difficulty_level": "EASY"},
        {"name": "a", "version": 0},
        {"name": "a", "expected_duration_seconds": 0},
        {"name": "a", "specific_params": Jsonb([])},
        {"name": "a", "tags": ["a", None]},
        {"name": "a", "origin": Jsonb(1)},
    ):
        with pytest.raises(psycopg.IntegrityError):
            insert(database, **wrong)


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["'; drop table simulation.scenario_definitions; --", "%s", "%(a)s", "{}", "$1", '"', "\\", "\x00"]
    ),
)
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(name=HOSTILE, text=HOSTILE, tag=HOSTILE, key=HOSTILE, value=HOSTILE, scenario_id=HOSTILE)
def test_hostile_text_is_kept_as_it_is_or_refused(database: Database, **hostile: str) -> None:
    repository = postgres_repository(database)
    record = {
        "scenario_definition_id": hostile["scenario_id"],
        "name": hostile["name"],
        "description": hostile["text"],
        "tags": [hostile["tag"]],
        "specific_params_json": {hostile["key"]: hostile["value"]},
        "author": hostile["text"],
    }
    try:
        saved = repository.save_scenario_definition(record)
    except ScenarioInvalid:
        return
    found = repository.get_scenario_by_id(saved)
    assert (found.name, found.description, found.tags) == (hostile["name"], hostile["text"], (hostile["tag"],))
    assert found.specific_params == {hostile["key"]: hostile["value"]}


@FUZZ
@given(query=HOSTILE, path=HOSTILE, value=HOSTILE, tag=HOSTILE, category=HOSTILE, cursor=HOSTILE, key=HOSTILE)
def test_hostile_searches_are_answered_or_refused(database: Database, **hostile: str) -> None:
    repository = postgres_repository(database)
    for asked in (
        {"query": hostile["query"]},
        {"cursor": hostile["cursor"]},
        {"filters": {hostile["key"]: hostile["value"]}},
        {"filters": {"tags": [hostile["tag"]], "category": hostile["category"]}},
        {"filters": {"contains": {hostile["key"]: hostile["value"]}}},
        {"filters": {"parameters": [{"path": hostile["path"], "op": "eq", "value": hostile["value"]}]}},
        {"filters": {"parameters": [{"path": "a", "op": hostile["path"], "value": hostile["value"]}]}},
    ):
        try:
            repository.search(**asked)
        except ScenarioInvalid:
            continue


# --- fifty thousand


@pytest.fixture(scope="module")
def many(server: EmbeddedPostgres) -> Iterator[Database]:
    with migrated_database(server) as dsn, Database(dsn) as database:
        load_many(database)
        yield database


def asked(query: str | None = None, cursor: str | None = None, **filters: Any) -> Request:
    return read_request(read_filters(filters), query, 50, cursor)


def compared(path: str, operator: str, value: Any) -> dict[str, Any]:
    return {"parameters": [{"path": path, "op": operator, "value": value}]}


HALF = compared("emf_strength_v_m", "ge", 50)
WORDS, UPDATED, NUMBERS = "scenario_words", "scenario_updated", "scenario_numbers_pkey"


@pytest.mark.parametrize(
    ("request_or_list", "index", "rows"),
    [
        (selecting.latest(read_filters({"class_label": RARE_LABEL}), 500), "scenario_tags", 50),
        (selecting.latest(read_filters({"category": "category_7"}), 5), "scenario_category", 5),
        (asked(tags=[f"class_{RARE_LABEL}"]), "scenario_tags", 50),
        (asked(tags={"any": ["batch_3", "batch_4"]}), "scenario_tags", 51),
        (asked(RARE_WORD), WORDS, 50),
        (asked(f"{RARE_WORD} humid -street"), WORDS, None),
        (asked("humid"), UPDATED, 51),
        (asked("scenario"), UPDATED, 51),
        (asked("scenario conditions"), UPDATED, 51),
        (asked('"early humid"'), WORDS, 51),
        (asked("class_FIRE"), UPDATED, 51),
        (asked('"conditions scenario"'), UPDATED, 0),
        (asked("humid or early"), UPDATED, 51),
        (asked("humid -early"), UPDATED, 51),
        (asked("-scenario"), UPDATED, 0),
        (asked("humid", **HALF), UPDATED, 51),
        (asked("scenario", **HALF), UPDATED, 51),
        (asked("scenario", tags=[f"class_{RARE_LABEL}"]), "scenario_tags", 50),
        (asked("scenario", **compared("emf_strength_v_m", "ge", 99.9)), NUMBERS, 50),
        (asked(contains={"site": RARE_SITE}), "scenario_params", 50),
        (asked(**compared("site", "eq", RARE_SITE)), "scenario_params", 50),
        (asked(**compared("site", "in", [RARE_SITE, "bay_8"])), "scenario_params", 51),
        (asked(**compared("emf_strength_v_m", "ge", 99.9)), NUMBERS, 50),
        (asked(**compared("environment.wind_speed_mps", "lt", 0.01)), NUMBERS, 42),
        (asked(weak_spot_id="ws_77"), "scenario_weak_spots", 50),
        (asked(), UPDATED, 51),
    ],
)
def test_queries_use_an_index_on_fifty_thousand_scenarios(
    many: Database, request_or_list: Request | Statement, index: str, rows: int | None
) -> None:
    (plan,) = plans(many, request_or_list)[-1:]
    nodes = list(_nodes(plan["Plan"]))
    assert index in {node.get("Index Name") for node in nodes}, json.dumps(plan, indent=1)
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], json.dumps(plan, indent=1)
    assert rows is None or round(plan["Plan"]["Actual Rows"]) == rows


@pytest.mark.parametrize(
    ("query", "most"),
    [("humid", 10_000), ("scenario", 2000), ('"early humid"', 10_000), ('"conditions scenario"', COUNT)],
)
def test_no_more_is_ranked_and_read_than_the_latest_matches_need(many: Database, query: str, most: int) -> None:
    (plan,) = plans(many, asked(query))[-1:]
    read = [node for node in _nodes(plan["Plan"]) if node.get("Index Name") in (WORDS, UPDATED)]
    visited = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read)
    assert visited <= most
    ranked = [node for node in _nodes(plan["Plan"]) if node.get("CTE Name") == "latest"]
    assert ranked
    assert max(node["Actual Rows"] for node in ranked) <= MOST_RANKED + 1


def test_pages_far_behind_read_on_from_where_the_one_before_ended(many: Database) -> None:
    repository = postgres_repository(many)
    cursor = repository.search("humid", limit=500).cursor
    for _ in range(6):
        cursor = repository.search("humid", limit=500, cursor=cursor).cursor
    (plan,) = plans(many, asked("humid", cursor))[-1:]
    (read,) = [node for node in _nodes(plan["Plan"]) if node.get("Index Name") == UPDATED]
    assert read["Actual Rows"] + read.get("Rows Removed by Filter", 0) < 1000


def plans(database: Database, wanted: Request | Statement) -> list[Any]:
    """Return the plans of the statements that a search runs, with what they did."""
    found: list[Any] = []

    class Explaining:
        """A connection that explains each statement before it runs it."""

        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def execute(self, sql: str, values: Any, **options: Any) -> Any:
            explained = self.connection.execute(f"explain (analyze, format json) {sql}".encode(), values, **options)
            found.extend(explained.fetchone()["QUERY PLAN"])
            return self.connection.execute(sql.encode(), values, **options)

    def work(connection: Connection) -> None:
        explaining: Any = Explaining(connection)
        if isinstance(wanted, Statement):
            explaining.execute(wanted.sql, wanted.values)
        else:
            _Rows(explaining).page(wanted)

    database.read(work)
    return found


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", []):
        yield from _nodes(inner)


EXPECTED = """
    with matches as (select external_id, updated_at, ts_rank_cd(search_vector, %(asked)s::tsquery) as rank,
        row_number() over (order by updated_at desc) as place
        from simulation.scenario_definitions
        where search_vector @@ %(asked)s::tsquery and (specific_params -> 'emf_strength_v_m')::real >= %(least)s)
    select external_id from matches
    order by place > 1000, case when place <= 1000 then rank end desc, updated_at desc
"""


@pytest.mark.parametrize(
    ("query", "tsquery", "least"),
    [
        (RARE_WORD, "quartz", 0),
        ("humid", "humid", 85),
        ("humid -street", "humid & !street", 90),
        ('"valley street"', "valley <-> street", 0),
        ("scenario or humid", "scenario | humid", 95),
    ],
)
def test_pages_hold_the_latest_matches_ranked_and_then_the_others(
    many: Database, query: str, tsquery: str, least: float
) -> None:
    repository = postgres_repository(many)
    found, cursor, pages = [], None, 0
    while cursor is not None or pages == 0:
        page = repository.search(query, compared("emf_strength_v_m", "ge", least), 200, cursor)
        found += [one.scenario_definition_id for one in page.scenarios]
        cursor, pages = page.cursor, pages + 1
    values = {"asked": tsquery, "least": least}
    rows = many.read(lambda connection: connection.execute(EXPECTED, values).fetchall())
    assert found == [row["external_id"] for row in rows]
    assert page.ranked_all is (len(found) <= MOST_RANKED)
    assert pages > 1 or len(found) <= 200


def test_pages_without_words_follow_each_other(many: Database) -> None:
    repository = postgres_repository(many)
    whole = repository.search(None, {"tags": ["batch_7"]}, 500).scenarios
    found, cursor = [], None
    while cursor is not None or not found:
        page = repository.search(None, {"tags": ["batch_7"]}, 20, cursor)
        found += page.scenarios
        cursor = page.cursor
    assert found == list(whole)
    assert len(found) == 100


def test_numbers_follow_the_parameters(database: Database) -> None:
    repository = postgres_repository(database)

    def above(value: float) -> int:
        return len(repository.search(filters=compared("a.b", "gt", value)).scenarios)

    repository.save_scenario_definition(
        {"scenario_definition_id": "s", "name": "n", "specific_params_json": {"a": {"b": 3}}}
    )
    assert (above(2), above(3)) == (1, 0)
    repository.update_scenario_definition("s", {"specific_params.a.b": 2**53 + 1})
    assert (above(2**53), above(2**53 + 1)) == (1, 0)
    repository.update_scenario_definition("s", {"specific_params.a": "gone"})
    assert above(0) == 0
    rows = database.read(lambda connection: connection.execute("select * from simulation.scenario_numbers").fetchall())
    assert rows == []
