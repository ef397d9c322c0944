"""rediss:// from end to end with an own certificate authority; a server that cannot be checked is not talked to."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import trustme
from celery import Celery

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.service import RunningService, running_service
from builders.tls import TlsFront, tls_in_front_of
from builders.waiting import eventually
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue_config import connections
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.settings import Settings

ROW = np.zeros((1, 8))
AUTHORITY = trustme.CA()


@dataclass
class Place:
    """A Redis with a password, reachable as itself and through TLS, and the file with the authority's certificate."""

    redis: EmbeddedRedis
    front: TlsFront
    authority: Path

    def url(self, options: str = "") -> str:
        return f"rediss://:secret@localhost:{self.front.port}/0{options}"

    @property
    def trusting_url(self) -> str:
        return self.url(f"?ssl_ca_certs={self.authority}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with start_redis(tmp_path_factory.mktemp("redis"), password="secret") as server:
        yield server


@pytest.fixture
def place(redis_server: EmbeddedRedis, authority: Path) -> Iterator[Place]:
    with tls_in_front_of(redis_server.port, AUTHORITY.issue_cert("localhost")) as front:
        yield Place(redis_server, front, authority)


@pytest.mark.parametrize("lane", ["on", "off"])
def test_everything_works_over_tls(lane: str, place: Place, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    write_workspace(workspace, q_hat=1.0)
    env = {"UQUEUE_BROKER_URL": place.trusting_url, "UQUEUE_LANE": lane}
    with running_service(tmp_path / "service", workspace=workspace, concurrency=1, env=env) as service:
        client = service.client
        assert len(client.submit(ROW).result(timeout=20)) == 1
        asyncio.run(awaited(service.settings))
        stock_celery(place.trusting_url + "&ssl_cert_reqs=required")
        old = client.model().wanted_version
        write_workspace(workspace, model=mqnn_h5_bytes(seed=2), q_hat=2.0)
        eventually(lambda: client.model().wanted_version != old, "beat and the worker find the new pair")
        killed_at_the_end(service)
    assert len(place.front.versions) > 5
    assert set(place.front.versions) == {"TLSv1.3"}


def killed_at_the_end(service: RunningService) -> None:
    """Have the processes ended without the seconds that an orderly stop takes, which other tests look at."""
    for one in service.services.values():
        one.stop_steps = ()


async def awaited(settings: Settings) -> None:
    async with uqueue.AsyncClient(settings) as client:
        job = await client.submit(ROW)
        assert len(await job.result(timeout=20)) == 1


def stock_celery(url: str) -> None:
    app = Celery("foreign", broker=url, backend=url, set_as_current=False)
    sent = app.send_task("uqueue.predict", kwargs={"features": ROW.tolist()})
    assert len(sent.get(timeout=20)["intervals"]) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Celery leaves its sockets to the collector
        del sent
        gc.collect()
    app.close()


def refusal(url: str) -> str:
    """Return the sentence that both clients refuse with; fail if it takes long."""
    settings = Settings.load({"UQUEUE_BROKER_URL": url})
    began = time.monotonic()
    with uqueue.Client(settings) as client, pytest.raises(ServiceUnreachable) as plain:
        client.submit(ROW)

    async def submit() -> None:
        async with uqueue.AsyncClient(settings) as client:
            await client.submit(ROW)

    with pytest.raises(ServiceUnreachable) as awaited:
        asyncio.run(submit())
    assert time.monotonic() - began < 10
    assert awaited.value.reason == plain.value.reason
    assert "secret" not in plain.value.message
    return plain.value.message


def test_without_the_authority_a_client_says_how_to_name_it(place: Place) -> None:
    message = refusal(place.url())
    assert "its certificate was refused (unable to get local issuer certificate)" in message
    assert "ssl_ca_certs=FILE" in message
    assert place.front.versions == []


def test_a_server_with_another_name_is_refused(place: Place) -> None:
    with tls_in_front_of(place.redis.port, AUTHORITY.issue_cert("elsewhere.example")) as front:
        message = refusal(Place(place.redis, front, place.authority).trusting_url)
    assert "its certificate was refused (Hostname mismatch, certificate is not valid for 'localhost')" in message


def test_an_expired_certificate_is_refused(place: Place) -> None:
    expired = AUTHORITY.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    with tls_in_front_of(place.redis.port, expired) as front:
        message = refusal(Place(place.redis, front, place.authority).trusting_url)
    assert "its certificate was refused (certificate has expired)" in message


def test_a_server_without_tls_gets_no_password(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the rest of what it takes for a command; only the time that a handshake is granted ends that."""
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.3)
    message = refusal(place.trusting_url.replace(str(place.front.port), str(place.redis.port)))
    assert "is TLS spoken on that port?" in message


def test_a_client_without_tls_is_not_answered(place: Place) -> None:
    refusal(f"redis://:secret@localhost:{place.front.port}/0")
    assert place.front.versions == []


def test_a_missing_file_is_named(place: Place) -> None:
    assert "ssl_ca_certs" in refusal(place.url("?ssl_ca_certs=/nowhere/ca.pem"))


def test_a_worker_that_cannot_check_the_server_waits_and_says_why(place: Place, tmp_path: Path) -> None:
    env = {**os.environ, "UQUEUE_BROKER_URL": place.url()}
    with running_service(tmp_path, concurrency=1, beat=True, wait=False, env=env) as service:
        for name in ("worker", "beat"):
            log = service.services[name].log_text
            eventually(lambda log=log: "CERTIFICATE_VERIFY_FAILED" in log(), f"{name} says why")  # type: ignore[misc]
        killed_at_the_end(service)
    assert place.front.versions == []
