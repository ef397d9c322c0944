"""What a dialect says and understands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from uqueue_worker.learning.errors import EndpointContract
from uqueue_worker.learning.models.rest.answers import Answer, Question, Unfit
from uqueue_worker.learning.models.rest.endpoint import Endpoint

#: Names of outputs that hold probabilities, the ones that tell most first.
_PREFERRED = ("members", "probabilities")


class Requests(Protocol):
    """What a dialect sends requests by."""

    async def get(self, path: str) -> Any:
        """Return the JSON at a path."""

    async def text(self, path: str) -> str:
        """Return the first line of what is at a path."""


class Dialect(ABC):
    """One way to ask an endpoint for predictions. It holds no state but the endpoint's description."""

    #: What says that the server takes requests.
    ready_paths: tuple[str, ...] = ()

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @property
    def model(self) -> str:
        return quote(self.endpoint.model, safe="")

    @abstractmethod
    def path(self, version: str | None) -> str:
        """Return where predictions are asked for."""

    @abstractmethod
    def body(self, question: Question) -> dict[str, Any]:
        """Return the request."""

    @abstractmethod
    def read(self, answer: Any, question: Question) -> Answer:
        """Return what an answer says. Raises Unfit for what the dialect does not allow."""

    async def asked_version(self, requests: Requests, tag: str | None) -> str | None:
        """Return the version to ask for, where a tag may stand for one; None leaves it to the server."""
        return tag

    async def list_versions(self, requests: Requests) -> list[str]:
        """Return the versions that the server says it can answer with."""
        raise NotImplementedError(f"the dialect {self.endpoint.dialect} does not list versions")

    async def health(self, requests: Requests) -> dict[str, Any]:
        """Return facts about a server and a model that are ready. Raises an error of the tree where they are not."""
        for path in self.ready_paths:
            await requests.get(path)
        return {}

    def unfit(self, path: str, reason: str) -> EndpointContract:
        return EndpointContract(url=self.endpoint.base_url + path, reason=reason)


def chosen(outputs: Mapping[str, Any], name: str | None) -> Any:
    """Return the output of a name, or the one that holds probabilities by its name, or the only one. Raises Unfit."""
    names = [name] if name is not None else [one for one in _PREFERRED if one in outputs]
    if not names and len(outputs) == 1:
        names = list(outputs)
    if not names or names[0] not in outputs:
        raise Unfit(f"no output {name or 'members or probabilities'} among {', '.join(sorted(outputs)[:10])}")
    return outputs[names[0]]


def json_rows(question: Question) -> list[list[float]]:
    """Return the rows as numbers that JSON carries exactly."""
    rows: list[list[float]] = question.rows.astype("float64").tolist()
    return rows
