"""One server for all simulated runs, and a way to run one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import structlog

from simulation.server import Server
from simulation.town import run
from simulation.world import World
from uqueue.embedded import start_redis
from uqueue_config.settings import Settings

Run = Callable[..., World]


@pytest.fixture(scope="session")
def simulate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`simulate(seed, plan)`; the server is the simulation's own, for each run forgets what was before."""
    with start_redis(tmp_path_factory.mktemp("simulation")) as redis:
        server = Server(redis.url)
        yield partial(run, server, Settings.load({"UQUEUE_BROKER_URL": redis.url}))
        server.close()


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """Thousands of runs give up thousands of jobs, and the sweeper logs each."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)
