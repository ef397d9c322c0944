"""mlflow: the scoring server of `mlflow models serve`, which serves one model and does not say which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_worker.learning.errors import ModelVersionNotFound
from uqueue_worker.learning.models.rest.answers import Answer, Question, answer_of, members_of
from uqueue_worker.learning.models.rest.dialects.base import Dialect, Requests, chosen, json_rows


class MlflowScoring(Dialect):
    ready_paths = ("/ping",)

    def path(self, version: str | None) -> str:
        return "/invocations"

    def body(self, question: Question) -> dict[str, Any]:
        if self.endpoint.input_name is not None:
            return {"inputs": {self.endpoint.input_name: json_rows(question)}}
        return {"dataframe_split": {"columns": list(question.columns), "data": json_rows(question)}}

    def read(self, answer: Any, question: Question) -> Answer:
        predictions = members_of(answer, "the answer").get("predictions")
        if isinstance(predictions, Mapping):
            predictions = chosen(predictions, self.endpoint.output_name)
        return answer_of(predictions, question, question.version)

    async def asked_version(self, requests: Requests, tag: str | None) -> str | None:
        """Return the version that the server is said to serve. Raises ModelVersionNotFound for another one."""
        known = self.endpoint.version
        if known is not None and tag not in (None, known):
            raise ModelVersionNotFound(model=self.endpoint.model, version=tag)
        return tag or known

    async def list_versions(self, requests: Requests) -> list[str]:
        return [] if self.endpoint.version is None else [self.endpoint.version]

    async def health(self, requests: Requests) -> dict[str, Any]:
        await super().health(requests)
        return {"server": f"mlflow {await requests.text('/version')}"}
