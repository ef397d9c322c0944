"""What a learning worker answers while its PostgreSQL is stopped, and what it then refuses."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.postgres import kill_postgres, postgres_server
from builders.scenario_rows import a_definition
from uqueue_config.learning.requests import (
    ArchiveScenario,
    ListRuns,
    RestoreScenario,
    ScenarioHistory,
    SearchScenarios,
    ShowScenario,
)
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import Settings
from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.hosting import Host
from uqueue_worker.learning.repository import database_of, migrate
from uqueue_worker.learning.repository.embedded import EmbeddedPostgres, start_postgres

LOOK_UPS = [
    ShowScenario(scenario_id="corona-1"),
    ShowScenario(scenario_id="corona-1", version=1),
    ScenarioHistory(scenario_id="corona-1"),
    SearchScenarios(query="corona"),
    SearchScenarios(filters={"category": "electrical_fault"}, limit=5),
]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="uqueue-copies-"))
    folder.chmod(0o755)
    try:
        with postgres_server(folder) as started:
            migrate(started.dsn)
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def clock() -> list[float]:
    """The time of the database's breaker."""
    return [0.0]


@pytest.fixture
def host(server: EmbeddedPostgres, tmp_path: Path, clock: list[float]) -> Iterator[Host]:
    given = {"DATABASE": server.dsn, "DATA_DIR": str(tmp_path), "EVALUATE": "local"}
    learning = LearningSettings.load({f"UQUEUE_LEARNING_{name}": value for name, value in given.items()})
    nobody: Any = None  # nothing is sent
    made = Host(Settings(), learning, nobody)
    breaker = CircuitBreaker("repository_copies", clock=lambda: clock[0])
    with database_of(learning, wait_seconds=0.3, breaker=breaker) as database:
        made.__dict__["_database"] = database
        yield made


def test_look_ups_are_answered_from_copies_while_postgresql_is_stopped_and_nothing_else_is(
    host: Host, server: EmbeddedPostgres, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    host.repository.save_scenario_definition(a_definition())
    host.repository.update_scenario_definition("corona-1", {"name": "Corona, again"})
    before = [host.answer(request, "token") for request in LOOK_UPS]
    host.engine.store.list_runs()
    host.repository.get_scenario_by_id("corona-1")
    kill_postgres(server)
    for _ in range(2):  # the breaker opens meanwhile
        assert [host.answer(request, "token") for request in LOOK_UPS] == before
    assert "is answered from a copy" in caplog.text
    refused = [
        ShowScenario(scenario_id="never asked for"),
        SearchScenarios(query="corona", limit=3),
        ArchiveScenario(scenario_id="corona-1"),
        RestoreScenario(scenario_id="corona-1", version=1),
        ListRuns(),
    ]
    for request in refused:
        with pytest.raises(RepositoryUnavailable):
            host.answer(request, "token")
    with pytest.raises(RepositoryUnavailable):  # what runs are made with
        host.engine.workshop.repository.get_scenario_by_id("corona-1")
    assert server.folder is not None
    with start_postgres(server.folder, port=server.port, durable=False):
        clock[0] = 1000.0
        assert len(host.repository.get_history("corona-1")) == 2  # neither archived nor restored
        host.repository.update_scenario_definition("corona-1", {"name": "After"})
        assert host.answer(ShowScenario(scenario_id="corona-1"), "token").name == "After"  # type: ignore[union-attr]
