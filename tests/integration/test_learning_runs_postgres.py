"""Runs whose store and repository are PostgreSQL: the same as in memory, also when the server dies in between."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.learning_runs import a_workshop, an_engine, campaign, small_config
from builders.learning_uses import assert_uses_are_those_of_the_samples
from builders.postgres import kill_postgres, migrated_database, postgres_server
from uqueue_config.learning.runs import RunRecord
from uqueue_worker.learning.engine import Engine, run_to_end
from uqueue_worker.learning.engine.postgres_store import PostgresRunStore
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.repository.connection import Database
from uqueue_worker.learning.repository.embedded import EmbeddedPostgres, start_postgres
from uqueue_worker.learning.repository.postgres import PostgresScenarioRepository

RUN = "run-1"


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """Give a server in a folder of its own, which a later start finds again."""
    with tempfile.TemporaryDirectory(prefix="uqueue-runs-") as folder:
        Path(folder).chmod(0o755)
        with postgres_server(Path(folder) / "postgres") as started:
            yield started


def test_a_run_in_postgresql_whose_server_dies_at_every_state_is_the_one_in_memory(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    memory = an_engine(tmp_path / "memory")
    memory.create(small_config(max_cycles=1), run_id=RUN)
    expected = campaign(memory, run_to_end(memory, RUN))
    running = [server]
    killed: list[str] = []

    def kill_and_start(run: RunRecord) -> None:
        if not run.ended:
            killed.append(run.state)
            kill_postgres(running[-1])
            running.append(start_postgres(server.folder, port=server.port, durable=False))

    with migrated_database(server) as dsn, Database(dsn) as database:
        repository = PostgresScenarioRepository(database)
        engine = an_engine(
            tmp_path / "postgres",
            PostgresRunStore(database),
            workshop=a_workshop(tmp_path / "postgres", repository),
        )
        engine.create(small_config(max_cycles=1), run_id=RUN)
        found = campaign(engine, _driven(engine, kill_and_start))
        (cycle,) = engine.store.cycles(RUN)
        assert_uses_are_those_of_the_samples(engine, cycle)
    running[-1].stop()
    assert killed == ["evaluating", "prioritising", "crafting", "generating", "training", "re_evaluating"]
    assert {name: found[name] for name in expected if name != "data"} == {
        name: expected[name] for name in expected if name != "data"
    }
    assert [one[:2] for one in found["data"]] == [one[:2] for one in expected["data"]]


def _driven(engine: Engine, watch: object) -> RunRecord:
    """Drive a run as often as the database goes away for longer than the driver tries."""
    while True:
        try:
            return run_to_end(engine, RUN, watch=watch)  # type: ignore[arg-type]
        except RepositoryUnavailable:
            continue
