"""Records of runs as rows: the whole record as JSON, and what queries look for as columns."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb
from pydantic import BaseModel

from uqueue_config.learning.runs import CycleRecord, DatasetEntry, RunRecord
from uqueue_worker.learning.engine.store import AnySuggestion, ScenarioUse

Row = dict[str, Any]


def run_row(run: RunRecord) -> Row:
    metrics = {"pool": run.feedback, "test": run.test}
    return {
        "run_id": run.run_id,
        "idempotency_key": run.idempotency_key,
        "status": run.status,
        "cycle": run.cycle,
        "state": run.state,
        "stop_reason": run.stop_reason,
        "configuration": _json(run.config),
        "config_hash": run.config_hash,
        "random_seed": run.config.random_seed,
        "metrics": Jsonb({split: one.metrics for split, one in metrics.items() if one is not None}),
        "record": _json(run),
        "revision": run.revision,
        "created_at": run.created_at_utc,
        "updated_at": run.updated_at_utc,
    }


def cycle_row(cycle: CycleRecord) -> Row:
    evaluations = {name: cycle[name] for name in ("evaluation_before", "evaluation_after", "test_before", "test_after")}
    return {
        "run_id": cycle.run_id,
        "cycle": cycle.cycle,
        "state": cycle.state,
        "stop_reason": cycle.stop_reason,
        "metrics": Jsonb({name: one.metrics for name, one in evaluations.items() if one is not None}),
        "seeds": Jsonb(cycle.seeds),
        "record": _json(cycle),
    }


def suggestion_row(run_id: str, cycle: int | None, place: int, suggestion: AnySuggestion) -> Row:
    return {
        "suggestion_id": suggestion.suggestion_id,
        "run_id": run_id,
        "cycle": cycle,
        "place": place,
        "kind": suggestion.kind,
        "state": suggestion.state,
        "record": _json(suggestion),
    }


def dataset_row(run_id: str, entry: DatasetEntry) -> Row:
    return {
        "run_id": run_id,
        "name": entry.name,
        "role": entry.role,
        "cycle": entry.cycle,
        "path": entry.ref.uri,
        "fingerprint": entry.ref.sha256,
        "schema_fingerprint": entry.ref.schema_fingerprint,
        "samples": entry.ref.n,
        "rejected": entry.rejected,
        "record": _json(entry),
    }


def use_row(use: ScenarioUse) -> Row:
    return {
        "run_id": use.run_id,
        "cycle": use.cycle,
        "weakness_id": use.weakness_id or "",
        "scenario_id": use.scenario.id,
        "scenario_version": use.scenario.version,
        "dataset": use.dataset,
        "samples": use.samples,
    }


def _json(record: BaseModel) -> Jsonb:
    return Jsonb(record.model_dump(mode="json"))
