"""native: classes, probabilities, uncertainties and explanations in one answer, which says what version it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.rest.answers import (
    PARTS,
    Answer,
    Question,
    Unfit,
    answer_of,
    classes_of,
    labels_of,
    members_of,
    numbers,
    text_of,
)
from uqueue_worker.learning.models.rest.dialects.base import Dialect, Requests, json_rows


class Native(Dialect):
    ready_paths = ("/healthz", "/readyz")

    def path(self, version: str | None) -> str:
        return f"/v1/models/{self.model}/predict"

    def body(self, question: Question) -> dict[str, Any]:
        return {
            "request_id": question.request_id,
            "instances": json_rows(question),
            "feature_names": list(question.columns),
            "return": ["probabilities", "uncertainty", *(["explanations"] if question.explain else [])],
            "model_version": question.version,
        }

    def read(self, answer: Any, question: Question) -> Answer:
        said = members_of(answer, "the answer")
        if said.get("model_name") != self.endpoint.model or said.get("request_id") != question.request_id:
            raise Unfit("an answer to another request, or of another model")
        version = text_of(said.get("model_version"), "model_version")
        if version is None:
            raise Unfit("model_version: expected a text")
        classes = classes_of(said.get("classes"))
        labels = labels_of(said.get("predictions"), len(question), classes)
        if said.get("probabilities") is None:
            return Answer(classes, version, labels=labels)
        found = answer_of(said["probabilities"], question, version, classes)
        if found.shares is None or found.shares.ndim != 2:
            raise Unfit("probabilities: expected a list of them for each row")
        parts = _uncertainty(said.get("uncertainty"), len(question))
        explanations = _explanations(said.get("explanations"), question)
        return Answer(classes, version, labels, found.shares, parts, explanations)

    async def list_versions(self, requests: Requests) -> list[str]:
        path = f"/v1/models/{self.model}"
        answer = await requests.get(path)
        versions = answer.get("versions") if isinstance(answer, Mapping) else None
        if not isinstance(versions, list) or not all(isinstance(one, str) for one in versions):
            raise self.unfit(path, "expected `versions`, a list of names")
        return versions


def _uncertainty(value: Any, n_rows: int) -> dict[str, FloatArray]:
    if value is None:
        return {}
    given = {name: one for name, one in members_of(value, "uncertainty").items() if name in PARTS and one is not None}
    found = {}
    for name, values in given.items():
        if not isinstance(values, list) or len(values) != n_rows:
            raise Unfit(f"uncertainty.{name}: expected {n_rows} values")
        there = [one for one in values if one is not None]
        column = np.full(n_rows, np.nan)
        column[[one is not None for one in values]] = numbers(there, f"uncertainty.{name}") if there else []
        found[name] = column
    return found


def _explanations(value: Any, question: Question) -> tuple[dict[str, float], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != len(question):
        raise Unfit(f"explanations: expected {len(question)} lists")
    return tuple(_importances(one, question) for one in value)


def _importances(value: Any, question: Question) -> dict[str, float]:
    listed = value if isinstance(value, list) else [None]
    found = {}
    for one in listed:
        said = members_of(one, "explanations")
        name, importance = said.get("feature"), numbers(said.get("importance"), "explanations")
        if name not in question.columns or importance.ndim != 0:
            raise Unfit("explanations: expected features that were sent, each with one importance")
        found[str(name)] = float(importance)
    return found
