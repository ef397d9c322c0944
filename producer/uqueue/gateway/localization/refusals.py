"""How what goes wrong with a localization is answered: a closed set of codes, each with its status.

The member `error` of a problem is its code in CamelCase: `result_timeout` is ResultTimeout.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uqueue.gateway import problems
from uqueue.gateway.problems import Problem
from uqueue_config.errors import (
    InputError,
    InternalError,
    InvalidSamples,
    JobError,
    JobExpired,
    JobNotFinished,
    JobTimeLimit,
    MalformedSamples,
    ModelError,
    ModelOutputInvalid,
    QueueFull,
    ServiceUnreachable,
    StoreFull,
    UqueueError,
)

RETRY = {"Retry-After": "5"}
_OWN_FAULT = "The model could not be evaluated for this input."


def refusal(error: Exception, index: int | None = None) -> Problem:
    """Return the problem that an error is; `index` is the item of a batch that it is about."""
    found = _problem(error)
    if index is None:
        return found
    members = {**found.members, "index": index}
    return Problem(found.status, found.code, f"Item {index}: {found.detail}", found.headers, members)


def not_loaded(detail: str) -> Problem:
    """No model can answer: none is named, published, loaded or healthy, or no worker is there."""
    return Problem(503, "model_not_loaded", detail, RETRY)


def invalid_request(detail: str, errors: list[dict[str, Any]] | None = None) -> Problem:
    """The request does not have the form that the schema says."""
    return Problem(422, "invalid_request", detail, members={"errors": errors} if errors else None)


def _problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case MalformedSamples():
            return invalid_request(error.message)
        case InvalidSamples():
            return Problem(400, "invalid_samples", error.message)
        case JobNotFinished() | JobExpired() | JobTimeLimit():
            return Problem(504, "result_timeout", "No worker answered in time. Try again.")
        case ModelOutputInvalid():
            return Problem(500, "model_output_invalid", "The model answered what cannot be. Nothing of it is shown.")
        case ModelError():
            return not_loaded("No worker can load the version that was chosen. GET /model/versions says why.")
        case InternalError():
            return Problem(500, "internal", error.message)
        case InputError() if not isinstance(error, QueueFull):
            return invalid_request(error.message)
        case QueueFull() | ServiceUnreachable() | StoreFull():
            return _as_everywhere(error)
        case JobError():  # the runtime failed, or took its worker with it
            return Problem(503, "inference_failed", _OWN_FAULT, RETRY)
        case UqueueError():
            return _as_everywhere(error)
    raise error


def _as_everywhere(error: UqueueError) -> Problem:
    status = problems.status_of(error)
    headers = problems.retry_of(error) if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Problem(status, error.code, problems.sentence_of(error), headers)
