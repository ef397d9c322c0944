"""tfserving: TensorFlow Serving's REST interface (https://www.tensorflow.org/tfx/serving/api_rest).

Its answers do not say which version they are of, so one is looked up first and named in every request. KServe's
protocol V1 is the same without versions: a model is asked for whether it is ready, and then for predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_worker.learning.errors import ModelVersionNotFound
from uqueue_worker.learning.models.rest.answers import Answer, Question, Unfit, answer_of, members_of
from uqueue_worker.learning.models.rest.dialects.base import Dialect, Requests, chosen, json_rows


class TfServing(Dialect):
    def path(self, version: str | None) -> str:
        return f"/v1/models/{self.model}{'' if version is None else f'/versions/{version}'}:predict"

    def body(self, question: Question) -> dict[str, Any]:
        named = {} if self.endpoint.signature_name is None else {"signature_name": self.endpoint.signature_name}
        return {**named, "instances": json_rows(question)}

    def read(self, answer: Any, question: Question) -> Answer:
        predictions = members_of(answer, "the answer").get("predictions")
        if _has_named_outputs(predictions, question):
            predictions = self._output_of(predictions)
        return answer_of(predictions, question, question.version)

    async def asked_version(self, requests: Requests, tag: str | None) -> str | None:
        """Return the newest version that is available under a number, under a label, or at all; None for KServe.

        Raises ModelVersionNotFound for a tag where models have no versions.
        """
        if tag is None:
            path = f"/v1/models/{self.model}"
        else:
            path = f"/v1/models/{self.model}/{'versions' if tag.isdigit() else 'labels'}/{tag}"
        versions = await self._available(requests, path)
        if versions is None and tag is not None:
            raise ModelVersionNotFound(model=self.endpoint.model, version=tag)
        if versions is None:
            return None
        if not versions:
            raise self.unfit(path, "no version is AVAILABLE")
        return max(versions, key=int)

    async def list_versions(self, requests: Requests) -> list[str]:
        return sorted(await self._available(requests, f"/v1/models/{self.model}") or [], key=int)

    async def health(self, requests: Requests) -> dict[str, Any]:
        version = await self.asked_version(requests, self.endpoint.version)
        return {"versions": [] if version is None else [version]}

    def _output_of(self, predictions: Any) -> list[Any]:
        """Return one output of a model that has several, each of which stands in every row by its name."""
        if len({frozenset(row) for row in predictions}) != 1:
            raise Unfit("predictions: expected the same outputs in every row")
        return [chosen(row, self.endpoint.output_name) for row in predictions]

    async def _available(self, requests: Requests, path: str) -> list[str] | None:
        """Return the versions that answer, None where a model has none. Raises EndpointContract."""
        answer = await requests.get(path)
        statuses = answer.get("model_version_status") if isinstance(answer, Mapping) else None
        if statuses is None and isinstance(answer, Mapping) and isinstance(answer.get("ready"), bool):
            if not answer["ready"]:
                raise self.unfit(path, "the model is not ready")
            return None
        if not isinstance(statuses, list) or not all(isinstance(one, Mapping) for one in statuses):
            raise self.unfit(path, "expected model_version_status")
        found = [str(one.get("version")) for one in statuses if one.get("state") == "AVAILABLE"]
        if not all(one.isascii() and one.isdigit() and len(one) < 20 for one in found):
            raise self.unfit(path, "expected versions that are numbers")
        return found


def _has_named_outputs(predictions: Any, question: Question) -> bool:
    """Whether each row is an object of outputs, and none of classes and their shares."""
    rows = predictions if isinstance(predictions, list) and predictions else [None]
    return all(isinstance(row, Mapping) and set(row) != set(question.classes) for row in rows)
