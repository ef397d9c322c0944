"""Every role has a Redis user of its own: normal work is never refused, everything else always."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import redis
from celery import Celery
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.guarded_redis import FOLDER, GuardedRedis, guarded_redis
from builders.waiting import eventually
from uqueue.cli.doctor import examine
from uqueue.gateway import reloads
from uqueue.local import beat_service, child_environment, flower_service, wait_for_worker, worker_service
from uqueue.supervisor import Service, Supervisor
from uqueue_config.connections import connect, connect_async
from uqueue_config.errors import JobAbandoned, QueueFull
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.names import Queue
from uqueue_config.settings import Settings

ROW = np.zeros((1, 8))
LONG = np.zeros((20_000, 8), np.float32)
FLOWER = ("ops", "long-secret")
COMMANDS = LedgerCommands(timedelta(days=1), timedelta(days=7))


class Place:
    """A service in which every process and every client has its own user."""

    def __init__(self, redis: GuardedRedis, folder: Path, lane: str) -> None:
        self.redis = redis
        self.folder = folder
        self.lane = lane
        self.workspace = folder / "workspace"
        self.supervisor = Supervisor()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.flower_port = int(probe.getsockname()[1])

    def settings(self, user: str) -> Settings:
        values = {
            "UQUEUE_BROKER_URL": self.redis.url(user),
            "UQUEUE_WORKSPACE_ROOT": str(self.workspace),
            "UQUEUE_CACHE_DIR": str(self.folder / "cache"),
            "UQUEUE_LANE": self.lane,
            "UQUEUE_POLL_SECONDS": "0.5",
            "UQUEUE_CONCURRENCY": "2",
            "UQUEUE_FLOWER_PORT": str(self.flower_port),
            "UQUEUE_FLOWER_USER": FLOWER[0],
            "UQUEUE_FLOWER_PASSWORD": FLOWER[1],
        }
        return Settings.load(values)

    def client(self, user: str) -> uqueue.Client:
        return uqueue.Client(self.settings(user))

    def start_worker(self) -> None:
        worker = worker_service(*self._run_as("worker"), log_file=self.folder / "worker.log")
        self.supervisor.start(worker)
        with self.client("operator") as operator:
            assert len(wait_for_worker(operator, worker, 2, 60)) == 2, worker.log_text()

    def start_others(self) -> None:
        self.supervisor.start(beat_service(self._run_as("beat")[1], log_file=self.folder / "beat.log"))
        if self.lane == "on":  # Flower hears and asks the same of a worker without the lane
            self.supervisor.start(flower_service(self._run_as("flower")[1], log_file=self.folder / "flower.log"))

    def stop(self) -> None:
        """Stop all services, at the same time."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Service.stop, self.supervisor.services.values()))

    def _run_as(self, user: str) -> tuple[Settings, dict[str, str]]:
        return self.settings(user), child_environment(self.settings(user), os.environ)

    def flower(self, path: str) -> Any:
        """Return what Flower answers, None while it does not."""
        try:
            reply = httpx.get(f"http://127.0.0.1:{self.flower_port}{path}", auth=FLOWER)
        except httpx.TransportError:
            return None
        if reply.status_code != 200:
            return None
        return reply.json() if path.startswith("/api") else reply.text


@pytest.fixture(params=["on", "off"], ids=["lane", "tasks"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(hidden=(384, 384, 384)), delta=0.0, q_hat=1.0)
    with guarded_redis(tmp_path / "redis") as redis:
        place = Place(redis, tmp_path, request.param)
        try:
            yield place
        finally:
            place.stop()
            print(*redis.denials(), sep="\n")  # what a failing test has to know first


def test_normal_work_is_never_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.client("producer") as producer, place.client("operator") as operator:
        given_up = before_there_is_a_worker(place, producer)
        place.start_worker()
        interrupted = killed_with_its_process(producer)
        place.start_others()  # while the sweeper waits whether that process comes back
        one_job_each_way(place, producer)
        retrained(place, operator)
        if place.lane == "on":
            watched(place, producer)
        with connect(place.redis.url("operator")) as connection:
            dead_letters(place, Ledger(connection), producer.job(given_up))
        monkeypatch.setenv("UQUEUE_BROKER_URL", place.redis.url("operator"))
        assert not [finding for finding in examine()[0] if "not allowed" in finding.found]
        assert len(interrupted.result(timeout=60)) == len(LONG)
        assert interrupted.status().attempts == 2
        place.stop()
        assert place.redis.denials() == []


def before_there_is_a_worker(place: Place, producer: uqueue.Client) -> str:
    """Return the id of a job that was given up."""
    queued, short_lived, given_up = (producer.submit(ROW, expires=expires) for expires in (None, 0.05, None))
    assert queued.cancel().state == "cancelled"
    eventually(lambda: short_lived.status().state == "expired", "nobody began it in time")
    outcome = Outcome.failure(JobAbandoned(job_id=given_up.id, attempts=3))
    Ledger(place.redis.admin).run(COMMANDS.commit([(given_up.id, outcome)]))
    return given_up.id


def killed_with_its_process(producer: uqueue.Client) -> uqueue.Job:
    job = producer.submit(LONG)
    eventually(lambda: job.status().rows_total, "the job is under way")
    worker = job.status().worker
    assert worker is not None
    psutil.Process(int(worker.split(":")[1])).kill()
    return job


def one_job_each_way(place: Place, producer: uqueue.Client) -> None:
    job = producer.submit(ROW, idempotency_key="one")
    assert len(job.result(timeout=20)) == 1
    assert job.status().state == "succeeded"
    assert producer.submit(ROW, idempotency_key="one").id == job.id
    assert [len(one.result(timeout=20)) for one in producer.submit_many([ROW] * 20)] == [1] * 20
    running = producer.submit(LONG)
    eventually(lambda: running.status().rows_total, "it runs")
    running.cancel()
    eventually(lambda: running.status().state == "cancelled", "it stops at a checkpoint")
    asyncio.run(through_the_gateway(place.settings("gateway")))
    for queue in (None, "predictions"):
        stock_celery(place.redis.url("producer"), queue)


async def through_the_gateway(settings: Settings) -> None:
    async with uqueue.AsyncClient(settings) as gateway:
        job = await gateway.submit(ROW)
        assert len(await job.result(timeout=20)) == 1
        assert [model.name for model in await gateway.models()] == ["mccp-uq"]
        async with connect_async(settings.result_store) as notes:
            report = await reloads.reload(gateway, notes, "mccp-uq", 20)
        assert report.poll.outcome in ("unchanged", "elsewhere", "overtaken")


def stock_celery(url: str, queue: str | None) -> None:
    app = Celery("foreign", broker=url, backend=url, set_as_current=False)
    sent = app.send_task("uqueue.predict", kwargs={"features": ROW.tolist()}, queue=queue)
    assert len(sent.get(timeout=20)["intervals"]) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Celery leaves its sockets to the collector
        del sent
        gc.collect()
    app.close()


def retrained(place: Place, operator: uqueue.Client) -> None:
    old = operator.model().wanted_version
    write_workspace(place.workspace, model=mqnn_h5_bytes(hidden=(384, 384, 384), seed=2), delta=0.0, q_hat=2.0)
    eventually(lambda: operator.model().wanted_version != old, "beat's poll found the new pair")
    (place.workspace / "models/mccp-uq/model.h5").write_bytes(b"half a mod")
    assert operator.reload(timeout=20).poll.outcome == "rejected"


def watched(place: Place, producer: uqueue.Client) -> None:
    job = producer.submit(ROW)
    job.result(timeout=20)
    eventually(lambda: place.flower("/api/workers?refresh=1"), "Flower sees the worker")
    eventually(lambda: place.flower("/api/tasks").get(job.id, {}).get("state") == "SUCCESS", "Flower shows the job")
    for page in ("/tasks", "/broker", "/workers", "/api/queues/length"):
        assert place.flower(page), page


def dead_letters(place: Place, operator: Ledger, given_up: uqueue.Job) -> None:
    place.redis.admin.lpush("predictions", b"{")
    eventually(lambda: operator.run(COMMANDS.letters(0, 10)).total == 2, "garbage is a dead letter")
    garbage, abandoned = operator.run(COMMANDS.letters(0, 10)).letters
    letter = operator.run(COMMANDS.letter(given_up.id))
    assert letter is not None
    assert letter.number == abandoned.number
    assert operator.run(COMMANDS.replay(abandoned.number, queue_is_here=True)).verdict == "replayed"
    assert len(given_up.result(timeout=20)) == 1
    assert operator.run(COMMANDS.drop([garbage.number])) == 1


# --- attacks ---

JOB = "5b0f8f0e-0000-4000-8000-000000000001"  # somebody else's
ATTACKS = f"""
    producer  FLUSHALL
    producer  FLUSHDB
    producer  KEYS *
    producer  SCAN 0
    producer  RANDOMKEY
    producer  DBSIZE
    producer  SELECT 1
    producer  SWAPDB 0 1
    producer  CONFIG GET *
    producer  CONFIG SET maxmemory 1
    producer  SHUTDOWN NOSAVE
    producer  SAVE
    producer  REPLICAOF 127.0.0.1 1
    producer  MONITOR
    producer  SLOWLOG GET
    producer  INFO
    producer  CLIENT LIST
    producer  CLIENT KILL TYPE normal
    producer  CLIENT PAUSE 100000
    producer  ACL LIST
    producer  ACL SETUSER producer +@all
    producer  SCRIPT FLUSH
    producer  FUNCTION LOAD "#!lua name=evil"
    producer  EVAL "return redis.call('DEL', KEYS[1])" 1 control
    producer  EVAL "return redis.call('GET', 'uqueue:sweeping')" 0
    producer  LPUSH control evil
    producer  LPUSH w@host.celery.pidbox evil
    producer  LPUSH some.reply.celery.pidbox evil
    producer  LPUSH dead 7
    producer  LPUSH unacked evil
    producer  RPOP predictions
    producer  DEL predictions
    producer  LRANGE predictions 0 -1
    producer  LRANGE control 0 -1
    producer  LRANGE dead 0 -1
    producer  HGETALL uqueue:dead:1
    producer  HGETALL unacked
    producer  ZRANGE uqueue:queued:predictions 0 -1
    producer  ZRANGE uqueue:running 0 -1
    producer  ZADD uqueue:running 1 {JOB}
    producer  HSET uqueue:wanted:mccp-uq version evil
    producer  HSET uqueue:candidate:mccp-uq reason evil
    producer  SET uqueue:serving:mccp-uq:host:1 evil
    producer  SADD uqueue:models evil
    producer  SADD _kombu.binding.control evil
    producer  SADD _kombu.binding.celery.pidbox evil
    producer  SET somebody:elses:key evil
    producer  RENAME celery-task-meta-{JOB} mine
    producer  COPY celery-task-meta-{JOB} uqueue:job:mine
    producer  SORT predictions BY nosort GET celery-task-meta-*
    producer  PUBLISH uqueue:reload mccp-uq
    producer  PUBLISH /0.celery.pidbox evil
    producer  PUBLISH /0.celeryev/worker.heartbeat evil
    producer  SUBSCRIBE /0.celeryev/task.multi
    producer  PSUBSCRIBE celery-task-meta-*
    producer  PSUBSCRIBE *
    producer  PUBSUB CHANNELS
    producer  HSETNX uqueue:reloads mccp-uq evil
    producer  ZADD uqueue:webhooks 1 {JOB}
    producer  HGET uqueue:webhook:{JOB} url
    gateway   LPUSH control evil
    gateway   PUBLISH uqueue:reload mccp-uq
    gateway   HGETALL uqueue:reloads
    gateway   DEL uqueue:reloads
    gateway   HGETALL uqueue:webhook:{JOB}
    gateway   HSET uqueue:wanted:mccp-uq version evil
    gateway   RPOP predictions
    gateway   ZRANGE uqueue:queued:predictions 0 -1
    gateway   LPUSH dead 7
    gateway   CONFIG GET *
    gateway   LRANGE alm 0 -1
    gateway   RPOP alm
    gateway   DEL alm
    gateway   LPUSH simulate evil
    gateway   LPUSH train evil
    gateway   GET uqueue:learning:asked:0123456789abcdef0123456789abcdef
    gateway   RPUSH uqueue:learning:answer:0123456789abcdef0123456789abcdef evil
    gateway   BLMOVE alm uqueue:learning:answer:0123456789abcdef0123456789abcdef LEFT LEFT 1
    gateway   SET uqueue:learning:worker 1
    producer  LPUSH alm evil
    producer  SET uqueue:learning:asked:0123456789abcdef0123456789abcdef 1
    operator  FLUSHALL
    operator  CONFIG SET maxmemory 1
    operator  KEYS *
    operator  HSET uqueue:wanted:mccp-uq version evil
    operator  RPOP predictions
    operator  PUBLISH /0.celery.pidbox evil
    operator  ACL LIST
    operator  RPOP alm
    operator  LPUSH train evil
    operator  SET uqueue:learning:worker 1
    worker    FLUSHALL
    worker    KEYS *
    worker    SCAN 0
    worker    CONFIG GET *
    worker    CONFIG SET dir /tmp
    worker    EVAL "return 1" 0
    worker    SCRIPT FLUSH
    worker    SHUTDOWN NOSAVE
    worker    REPLICAOF 127.0.0.1 1
    worker    ACL SETUSER worker +@all
    worker    SET somebody:elses:key evil
    learning  FLUSHALL
    learning  KEYS *
    learning  SCAN 0
    learning  RPOP predictions
    learning  LRANGE predictions 0 -1
    learning  LPUSH control evil
    learning  HGETALL unacked
    learning  HSET uqueue:wanted:mccp-uq version evil
    learning  ZRANGE uqueue:queued:predictions 0 -1
    learning  LRANGE dead 0 -1
    learning  HGETALL uqueue:dead:1
    learning  PUBLISH uqueue:reload mccp-uq
    learning  SET somebody:elses:key evil
    beat      GET celery-task-meta-{JOB}
    beat      HGETALL uqueue:job:{JOB}
    beat      LPUSH predictions evil
    beat      LRANGE control 0 -1
    beat      PUBLISH /0.celery.pidbox evil
    beat      SUBSCRIBE celery-task-meta-{JOB}
    flower    GET celery-task-meta-{JOB}
    flower    HGETALL uqueue:job:{JOB}
    flower    SUBSCRIBE celery-task-meta-{JOB}
    flower    LPUSH predictions evil
    flower    LPUSH control evil
    flower    RPOP predictions
    flower    LRANGE predictions 0 -1
    flower    HGETALL unacked
    flower    DEL predictions
    flower    PUBLISH uqueue:reload mccp-uq
    flower    KEYS *
    health    INFO
    health    GET celery-task-meta-{JOB}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    """A Redis as a service with one finished, one queued and one dead job leaves it."""
    with guarded_redis(tmp_path_factory.mktemp("target")) as target:
        admin = target.admin
        for queue in ("predictions", "control", "celery"):
            admin.lpush(queue, f"a message with the id {JOB}")
        admin.hset(f"uqueue:job:{JOB}", mapping={"state": "succeeded", "queue": "predictions"})
        admin.set(f"celery-task-meta-{JOB}", "somebody's result")
        admin.zadd("uqueue:queued:predictions", {JOB: 1})
        admin.zadd("uqueue:running", {JOB: 1})
        admin.hset("uqueue:wanted:mccp-uq", "version", "good")
        admin.lpush("dead", 1)
        admin.hset("uqueue:dead:1", "message", "somebody's")
        admin.hset("unacked", "tag", "somebody's")
        yield target


def contents(admin: redis.Redis) -> dict[bytes, Any]:
    return {key: admin.dump(key) for key in admin.scan_iter()}


@pytest.mark.parametrize("attack", [" ".join(line.split()) for line in ATTACKS.strip().splitlines()])
def test_an_attack_is_refused_and_seen(attack: str, target: GuardedRedis) -> None:
    user, *command = shlex.split(attack)
    before = contents(target.admin)
    target.denials()
    attacker = redis.Redis.from_url(target.url(user), lib_name=None, lib_version=None)
    with attacker, pytest.raises(NoPermissionError):
        attacker.execute_command(*command)
    seen = target.denials()
    assert len(seen) == 1
    assert seen[0].startswith(f"{user} ")
    assert contents(target.admin) == before


@pytest.mark.parametrize(
    ("script", "keys"),
    [
        ("return redis.call('LPUSH', KEYS[1], 'evil')", ["control"]),
        ("return redis.call('LPUSH', 'control', 'evil')", []),
        ("return redis.call('HSET', KEYS[1], 'version', 'evil')", ["uqueue:wanted:mccp-uq"]),
        ("return redis.call('RPOP', KEYS[1])", ["predictions"]),
        ("return redis.call('KEYS', '*')", []),
        ("return redis.call('PUBLISH', 'uqueue:reload', 'evil')", []),
        ("return redis.pcall('ZRANGE', 'uqueue:running', 0, -1)", []),
    ],
)
def test_a_script_may_do_no_more_than_who_runs_it(script: str, keys: list[str], target: GuardedRedis) -> None:
    """Every program may load scripts, since the ledger is made of them; each command inside is checked."""
    before = contents(target.admin)
    target.denials()
    with redis.Redis.from_url(target.url("producer")) as attacker:
        digest = str(attacker.script_load(script))
        with pytest.raises(ResponseError):
            attacker.evalsha(digest, len(keys), *keys)
    assert [line.split()[0] for line in target.denials()] == ["producer"]
    assert contents(target.admin) == before


def test_a_full_queue_is_told_to_those_who_may_not_look_into_it(target: GuardedRedis) -> None:
    """What is in the queue is counted: its ids would open the jobs of others."""
    target.denials()
    settings = Settings.load({"UQUEUE_BROKER_URL": target.url("producer"), "UQUEUE_QUEUE_LIMIT": "1"})
    with uqueue.Client(settings) as producer, pytest.raises(QueueFull) as refusal:
        producer.submit(ROW)
    assert refusal.value.retry_after_seconds == 60  # the message of this fixture has waited since 1970
    assert target.denials() == []


def test_a_forged_record_does_not_make_a_worker_push_elsewhere(target: GuardedRedis) -> None:
    """The sweeper may push to every list of a worker; of a record it takes no other queue than uqueue's own."""
    record = {"state": "running", "queue": "some.reply.celery.pidbox", "message": "evil", "attempts": 0}
    with connect(target.url("producer")) as producer, connect(target.url("worker")) as worker:
        producer.hset("uqueue:job:forged", mapping=record)  # type: ignore[arg-type]
        worker.zadd("uqueue:running", {"forged": 1})  # as when a worker claims it
        before = contents(target.admin)
        sweep = COMMANDS.sweep(list(Queue), grace_seconds=0, most=10, max_attempts=3, queue_is_here=True)
        Ledger(worker).run(sweep)
        changed = {key for key, value in contents(target.admin).items() if before.get(key) != value}
        worker.zrem("uqueue:running", "forged")
    assert b"some.reply.celery.pidbox" not in changed


@pytest.mark.parametrize("command", ["DEBUG SLEEP 0", "MODULE LOAD /tmp/evil.so"])
def test_what_this_server_refuses_to_all_is_refused_by_the_rules_too(command: str, target: GuardedRedis) -> None:
    for user in ("producer", "worker", "operator"):
        verdict = target.admin.execute_command("ACL DRYRUN", user, *command.split())
        assert b"no permissions" in verdict


def test_nobody_comes_in_without_a_password(target: GuardedRedis) -> None:
    with redis.Redis(port=target.server.port) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    for user, password in (("default", ""), ("producer", "wrong"), ("nobody", "wrong")):
        with (
            redis.Redis(port=target.server.port, username=user, password=password) as stranger,
            pytest.raises(AuthenticationError),
        ):
            stranger.ping()


def test_nobody_may_run_an_administrative_command(target: GuardedRedis) -> None:
    """Apart from INFO, which tells an operator how Redis is."""
    admin = target.admin
    dangerous = {name for kind in ("admin", "dangerous") for name in admin.acl_cat(kind)}
    for user in ("producer", "gateway", "operator", "worker", "learning", "beat", "flower", "health"):
        rules = str(admin.acl_getuser(user))
        allowed = {word.strip("'+()[]{}, ") for word in rules.split() if word.strip("'([{ ").startswith("+")}
        assert allowed, rules
        assert allowed & dangerous == ({"info"} if user == "operator" else set())


def test_the_template_has_a_user_for_every_role_and_no_password() -> None:
    text = (FOLDER / "users.acl").read_text()
    roles = {"producer", "gateway", "operator", "worker", "learning", "beat", "flower", "health"}
    assert {line[5:-1] for line in text.splitlines() if line.startswith("user ")} == roles | {"default"}
    assert "nopass" not in text
    assert "+@" not in text
    assert ">" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
