"""/model: what serves, shares of the requests, A/B tests, reload, the cache."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Response
from pydantic_core import to_json
from redis.exceptions import NoPermissionError, RedisError

from uqueue.gateway.documents import BODY, responses
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.arms import Look
from uqueue.gateway.localization.refusals import RETRY, not_loaded
from uqueue.gateway.localization.reload import reload
from uqueue.gateway.localization.schemas import (
    AbTestIn,
    AbTestOut,
    CacheOut,
    InfoOut,
    ReloadedOut,
    ReloadIn,
    VersionsOut,
    WeightIn,
)
from uqueue.gateway.localization.service import Localizer
from uqueue.gateway.localization.state import LocalizerState
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import needs
from uqueue_config.connections import translated
from uqueue_config.figures import Sums
from uqueue_config.figures.definitions import COUNTERS_KEY
from uqueue_config.localization import ModelCard
from uqueue_config.messages import VERSION, Acknowledgement

JSON = "application/json"
router = APIRouter(tags=["localization"])
_READ, _ADMIN = [needs("read")], [needs("admin")]
Version = Annotated[str, Path(pattern=VERSION, description="The version, as its registry names it.", examples=["3"])]


@router.get("/model/info", dependencies=_READ, responses=responses(s200={"model": InfoOut}))
async def info(localizer: LocalizerState) -> Response:
    """Return what the version that answers most requests declares, and how it does."""
    _ = localizer.named
    look = await localizer.versions.look()
    card = look.cards.get(look.active or "")
    if card is None:
        raise not_loaded("No version of the localization model is loaded.")
    return _json(info_message(card, look, await _sums(localizer)))


@router.get("/model/versions", dependencies=_READ, responses=responses(s200={"model": VersionsOut}))
async def versions(localizer: LocalizerState) -> Response:
    """Return every version with its share of the requests, and the A/B test that runs."""
    _ = localizer.named
    look, sums = await localizer.versions.look(fresh=True), await _sums(localizer)
    return _json(versions_message(look, sums, localizer.settings.localization_max_versions))


@router.put(
    "/model/versions/{version}", dependencies=_ADMIN, responses=responses(409, *BODY, s200={"model": VersionsOut})
)
async def set_weight(version: Version, weight: WeightIn, localizer: LocalizerState) -> Response:
    """Load a version, where it is not, and give it a share of the requests; 0 only loads it."""
    _ = localizer.named
    await localizer.versions.set_model(version, weight.weight)
    return await versions(localizer)


@router.delete(
    "/model/versions/{version}", dependencies=_ADMIN, responses=responses(404, 409, s200={"model": VersionsOut})
)
async def remove(version: Version, localizer: LocalizerState) -> Response:
    """Give a version no more requests. The active one cannot be removed."""
    _ = localizer.named
    await localizer.versions.remove(version)
    return await versions(localizer)


@router.post("/model/ab-test", dependencies=_ADMIN, responses=responses(409, *BODY, s200={"model": AbTestOut}))
async def start_ab_test(asked: AbTestIn, localizer: LocalizerState) -> Response:
    """Let two loaded versions share all requests, until the test is ended or its time is over."""
    _ = localizer.named
    await localizer.versions.start_ab_test(asked.a, asked.b, asked.traffic_split, asked.duration_seconds)
    return _json(_test(await localizer.versions.look(fresh=True)))


@router.delete("/model/ab-test", dependencies=_ADMIN, responses=responses(404, s200={"model": VersionsOut}))
async def end_ab_test(localizer: LocalizerState, winner: str | None = None) -> Response:
    """End the test. `winner` then answers all requests; without one the shares from before are back."""
    _ = localizer.named
    await localizer.versions.end_ab_test(winner)
    return await versions(localizer)


@router.post("/model/reload", dependencies=_ADMIN, responses=responses(409, *BODY, s200={"model": ReloadedOut}))
async def reload_model(localizer: LocalizerState, asked: ReloadIn | None = None) -> Response:
    """Load what the registry names now, or `version_id`, and send it all requests. No request is refused meanwhile."""
    asked = asked or ReloadIn()
    return _json(await reload(localizer, asked.version_id, asked.stage, force=asked.force))


@router.get("/model/cache", dependencies=_READ, responses=responses(s200={"model": CacheOut}))
async def cache(localizer: LocalizerState) -> Response:
    """Return how the cache of outputs does, over all gateways."""
    return _json(await _cache(localizer))


@router.delete("/model/cache", dependencies=_ADMIN, responses=responses(s200={"model": CacheOut}))
async def clear_cache(localizer: LocalizerState) -> Response:
    """Drop all outputs that are kept, and count hits and misses anew."""
    try:
        await localizer.cache.clear()
        await localizer.cache.reset_stats()
    except NoPermissionError as error:
        detail = "The gateway's Redis user may not list keys. Give the cache a Redis of its own to clear it."
        raise Problem(403, "not_permitted", detail) from error
    except RedisError as error:
        raise _no_cache() from error
    return _json(await _cache(localizer))


def info_message(card: ModelCard, look: Look, sums: Sums) -> dict[str, Any]:
    """Return the body of `GET /model/info`; see `InfoOut`."""
    hits, misses = (sums.value(f"cache_{name}_total") for name in ("hits", "misses"))
    declared, serving = card.declaration, [one for one in look.processes if one.version == card.content]
    loaded_at = [one.loaded_at for one in serving if one.loaded_at is not None]
    return {
        "name": card.name,
        "version": card.version,
        "semver": declared.semver,
        "stage": card.stage,
        "alias": card.alias,
        "status": _state(look),
        "created_at": card.created_at,
        "mlflow_run_id": card.run_id,
        "accuracy_meters": card.accuracy_meters,
        "training_samples": card.training_samples,
        "last_reloaded": utc_text(datetime.fromtimestamp(max(loaded_at), UTC)) if loaded_at else None,
        "inference_count": int(sums.value("model_inference_count_total")),
        "avg_latency_ms": sums.distribution("inference_latency_ms").mean,
        "cache_hit_rate": hits / (hits + misses) if hits else 0.0,
        "feature_recipe": declared.feature_recipe,
        "sample_rate_hz": declared.sample_rate_hz,
        "receivers": declared.receivers,
        "output_encoding": declared.output_encoding,
        "worker_versions": _spread(look),
    }


def versions_message(look: Look, sums: Sums, max_versions: int) -> dict[str, Any]:
    """Return the body of `GET /model/versions`; see `VersionsOut`."""
    listed = list(_listed(look, sums))
    by_status = {name: sum(one["status"] == name for one in listed) for name in ("ready", "error")}
    return {
        "active": look.active,
        "previous": look.shared.previous,
        "loaded_count": sum(one["status"] in ("ready", "stale") for one in listed),
        "max_versions": max_versions,
        "versions": listed,
        "ab_test": _test(look) if look.test is not None else None,
        "stats": {**by_status, "worker_processes": len(look.processes)},
    }


def _listed(look: Look, sums: Sums) -> Iterator[dict[str, Any]]:
    names = sorted({*look.cards, *look.shared.arms}, key=lambda version: (len(version), version))
    weights = look.weights
    for version in names:
        card, arm = look.cards.get(version), look.shared.arms.get(version)
        status, reason = _status(look, version)
        rows = sums.value("inferences", version)
        seconds = sums.value("inference_seconds", version)
        yield {
            "version": version,
            "semver": card.declaration.semver if card else None,
            "stage": card.stage if card else "None",
            "status": status,
            "weight": weights.get(version, 0.0),
            "is_active": version == look.active,
            "created": (card.created_at if card else None) or (arm.created if arm else None),
            "updated": arm.updated if arm else None,
            "error": reason,
            "metrics": {
                "inference_count": rows,
                "mean_onnx_ms": 1000 * seconds / rows if rows else 0.0,
                "consecutive_failures": look.failures.get(version, 0),
            },
        }
    if look.status is not None and look.status.rejected_version:
        yield _rejected(look.status.rejected_version, look.status.rejected_reason)


def _rejected(content: str, reason: str | None) -> dict[str, Any]:
    blank = dict.fromkeys(("semver", "created", "updated"))
    known = {"version": content, "stage": "None", "status": "error", "weight": 0.0, "is_active": False}
    return {**known, **blank, "error": reason, "metrics": {}}


def _status(look: Look, version: str) -> tuple[str, str | None]:
    arm = look.shared.arms.get(version)
    if look.is_excluded(version):
        return "error", "It failed too often in a row, and is tried again now and then."
    if look.stable is not None and look.stable.version == version:
        return ("stale", None) if any(one.state == "stale" for one in look.processes) else ("ready", None)
    if arm is None:
        return "deprecated", None
    return arm.status, arm.error


def _state(look: Look) -> str:
    if look.processes:
        return "ready"
    states = [one.state for one in look.status.processes] if look.status else []
    return "loading" if "loading" in states else "error"


def _spread(look: Look) -> dict[str, int]:
    counts: dict[str, int] = {}
    for process in look.processes:
        name = _registered(look, process)
        counts[name] = counts.get(name, 0) + 1
    return counts


def _registered(look: Look, process: Acknowledgement) -> str:
    card = look.card_of(process.version) if process.version else None
    return card.version if card else process.version or "unloaded"


def _test(look: Look) -> dict[str, Any]:
    if look.test is None:
        raise Problem(404, "test_not_found", "The A/B test has ended.")
    routed = {f"routed_to_{arm}": look.routed.get(arm, 0) for arm in ("a", "b")}
    return {**look.test.model_dump(), **routed}


async def _sums(localizer: Localizer) -> Sums:
    with translated(localizer.settings.result_store):
        return Sums(await cast(Any, localizer.records.hgetall(COUNTERS_KEY)))


async def _cache(localizer: Localizer) -> dict[str, Any]:
    try:
        return await localizer.cache.stats()
    except RedisError as error:
        raise _no_cache() from error


def _no_cache() -> Problem:
    return Problem(503, "cache_unreachable", "The cache does not answer. Requests are answered without it.", RETRY)


def _json(message: dict[str, Any]) -> Response:
    return Response(to_json(message), media_type=JSON)
