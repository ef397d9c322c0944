"""`uqueue doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import redis
from redis.exceptions import RedisError

from uqueue.cli import sources
from uqueue.cli.failures import FAILED, OK, UNREACHABLE, USAGE
from uqueue.cli.findings import Finding
from uqueue.cli.output import short
from uqueue.client import Client
from uqueue.status import ModelStatus
from uqueue_config.connections import connect, translated
from uqueue_config.errors import ServiceUnreachable, SettingsError, UqueueError
from uqueue_config.names import Queue
from uqueue_config.settings import Settings, redact

HTTP_SECONDS = 2.0


def examine() -> tuple[list[Finding], int]:
    """Look at everything that can be looked at from here; return the findings and the exit code they mean."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        return [Finding("settings", "fail", error.message, "Correct or unset the variables named.")], USAGE
    findings = [Finding("settings", "ok", f"{len(settings.model_fields_set)} set, the others at their defaults")]
    reachable = True
    for service, url in _stores(settings):
        try:
            findings += _store(service, url)
        except ServiceUnreachable as error:
            reachable = False
            advice = "Start Redis (`uqueue up` starts one), or correct UQUEUE_BROKER_URL and UQUEUE_RESULT_URL."
            findings.append(Finding(service, "fail", error.message, advice))
    if reachable:
        findings += _guarded("queues", _queues(settings))
        findings += _guarded("models", _models(settings))
    findings += [*_guarded("models", sources.examine(settings)), _flower(settings)]
    failed = any(finding.level == "fail" for finding in findings)
    return findings, UNREACHABLE if not reachable else FAILED if failed else OK


def _stores(settings: Settings) -> list[tuple[str, str]]:
    if settings.broker == settings.result_store:
        return [("broker and results", settings.broker)]
    return [("broker", settings.broker), ("results", settings.result_store)]


def _store(service: str, url: str) -> list[Finding]:
    with translated(url), connect(url) as connection:
        connection.ping()
        facts = _info(connection)
    version = facts.get("valkey_version") or facts.get("redis_version") or "of unknown version"
    findings = [Finding(service, "ok", f"{redact(url)} answers, {facts.get('server_name', 'redis')} {version}")]
    if not facts:
        findings.append(Finding(service, "warn", "INFO is not allowed here", "Persistence could not be checked."))
        return findings
    if facts.get("maxmemory_policy", "noeviction") != "noeviction":
        found = f"maxmemory-policy is {facts['maxmemory_policy']}: jobs can vanish when memory is short"
        findings.append(Finding(f"{service}: memory", "warn", found, "Set maxmemory-policy noeviction."))
    if not facts.get("aof_enabled"):
        found = "appendonly is off: a crash of Redis loses accepted jobs"
        findings.append(Finding(f"{service}: persistence", "warn", found, "Set appendonly yes, appendfsync always."))
    return findings


def _info(connection: redis.Redis) -> dict[str, Any]:
    with contextlib.suppress(RedisError):
        return cast(dict[str, Any], connection.info())
    return {}


def _guarded(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except UqueueError as error:
        yield Finding(check, "fail", error.message)


def _queues(settings: Settings) -> Iterator[Finding]:
    with translated(settings.broker), connect(settings.broker) as connection:
        lengths = {queue.value: cast(int, connection.llen(queue.value)) for queue in Queue}
    yield Finding("queues", "ok", ", ".join(f"{name}: {length} waiting" for name, length in lengths.items()))


def _models(settings: Settings) -> Iterator[Finding]:
    with Client(settings) as client:
        models = client.models()
    if not any(model.processes for model in models):
        advice = "Start a worker: `uqueue up`, or `celery -A uqueue_worker.app worker`."
        yield Finding("workers", "fail", "no worker process has reported", advice)
    for model in models:
        if model.processes:
            yield _workers(model)
        if model.rejected_reason:
            found = f"version {short(model.rejected_version)} was refused: {model.rejected_reason}"
            yield Finding(
                f"model {model.name}: candidate", "warn", found, "Mend the artifacts; the old pair serves on."
            )


def _workers(model: ModelStatus) -> Finding:
    states = Counter(process.state for process in model.processes)
    versions = Counter(short(process.version) for process in model.processes if process.version)
    serving = ", ".join(f"{version} on {count}" for version, count in versions.items()) or "nothing"
    found = f"{states.total()} processes serve {serving}; wanted is {short(model.wanted_version)}"
    check = f"model {model.name}"
    troubled = [process for process in model.processes if process.state not in ("ready", "unloaded")]
    if not versions and not troubled:
        return Finding(check, "ok", f"{states.total()} processes load it when a job asks for it")
    if not versions:
        reason = troubled[0].reason or troubled[0].state
        advice = (
            "Put a model with its calibration where workers look: into the workspace (`uqueue sample-workspace DIR` "
            "makes one), or with `uqueue publish`."
        )
        return Finding(check, "fail", f"{found}: {reason}", advice)
    if troubled:
        reason = f"{troubled[0].state}: {troubled[0].reason or 'no reason given'}"
        return Finding(check, "warn", f"{found}; {len(troubled)} are {reason}", "Run the calibration again.")
    if not model.converged:
        return Finding(
            check, "warn", found, "A reload is under way; look again in some seconds, or at the worker's log."
        )
    return Finding(check, "ok", found)


def _flower(settings: Settings) -> Finding:
    url = f"http://{settings.flower_address}:{settings.flower_port}"
    try:
        with urllib.request.urlopen(f"{url}/healthcheck", timeout=HTTP_SECONDS):  # noqa: S310 - http, fixed above
            return Finding("flower", "ok", f"{url} answers")
    except (urllib.error.URLError, OSError, ValueError):
        advice = "Optional; `uqueue up` or `python -m uqueue_worker.flower` starts it."
        return Finding("flower", "warn", f"{url} does not answer", advice)
