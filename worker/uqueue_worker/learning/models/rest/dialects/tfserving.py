"""tfserving: TensorFlow Serving's REST interface (https://www.tensorflow.org/tfx/serving/api_rest).

Its answers do not say which version they are of, so one is looked up first and named in every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_worker.learning.models.rest.answers import Answer, Question, answer_of, members_of
from uqueue_worker.learning.models.rest.dialects.base import Dialect, Requests, json_rows


class TfServing(Dialect):
    def path(self, version: str | None) -> str:
        return f"/v1/models/{self.model}{'' if version is None else f'/versions/{version}'}:predict"

    def body(self, question: Question) -> dict[str, Any]:
        named = {} if self.endpoint.signature_name is None else {"signature_name": self.endpoint.signature_name}
        return {**named, "instances": json_rows(question)}

    def read(self, answer: Any, question: Question) -> Answer:
        predictions = members_of(answer, "the answer").get("predictions")
        return answer_of(predictions, question, question.version)

    async def asked_version(self, requests: Requests, tag: str | None) -> str | None:
        """Return the newest version that is available under a number, under a label, or at all."""
        if tag is None:
            path = f"/v1/models/{self.model}"
        else:
            path = f"/v1/models/{self.model}/{'versions' if tag.isdigit() else 'labels'}/{tag}"
        versions = await self._available(requests, path)
        if not versions:
            raise self.unfit(path, "no version is AVAILABLE")
        return max(versions, key=int)

    async def list_versions(self, requests: Requests) -> list[str]:
        return sorted(await self._available(requests, f"/v1/models/{self.model}"), key=int)

    async def health(self, requests: Requests) -> dict[str, Any]:
        return {"versions": [await self.asked_version(requests, self.endpoint.version)]}

    async def _available(self, requests: Requests, path: str) -> list[str]:
        answer = await requests.get(path)
        statuses = answer.get("model_version_status") if isinstance(answer, Mapping) else None
        if not isinstance(statuses, list) or not all(isinstance(one, Mapping) for one in statuses):
            raise self.unfit(path, "expected model_version_status")
        found = [str(one.get("version")) for one in statuses if one.get("state") == "AVAILABLE"]
        if not all(one.isascii() and one.isdigit() and len(one) < 20 for one in found):
            raise self.unfit(path, "expected versions that are numbers")
        return found
