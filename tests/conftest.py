"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import settings

from uqueue_config.connections import connect
from uqueue_config.settings import PREFIX

# The same examples in every run: a red one says something about the change. HYPOTHESIS_PROFILE=search looks for more.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the UQUEUE_* settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _redis_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from uqueue.embedded import start_redis

    with start_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="module")
def redis_url(_redis_of_the_run: str) -> str:
    """A Redis of this test run's own, empty for each file; the tests in it keep apart by their keys."""
    with closing(connect(_redis_of_the_run)) as connection:
        connection.flushall()
    return _redis_of_the_run
