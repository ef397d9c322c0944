"""Every error uqueue raises on purpose.

    UqueueError
    ├── SettingsError                  the environment holds unknown or wrong UQUEUE_* variables
    ├── ServiceUnreachable             the broker or the result store does not answer
    ├── InputError                     refused at submission, nothing was enqueued
    │   ├── InvalidFeatures
    │   ├── InvalidMessage
    │   └── PayloadTooLarge
    ├── JobError                       about one job
    │   ├── JobNotFound
    │   ├── JobNotFinished             (also a TimeoutError)
    │   ├── JobCancelled
    │   ├── JobExpired                 did not start before its `expires`
    │   ├── ResultExpired              finished, but its result is past its retention
    │   ├── IdempotencyConflict
    │   └── JobFailed                  the worker gave up; subclasses say why
    │       ├── JobTimeLimit
    │       ├── JobAbandoned           too many attempts died with their worker
    │       └── InternalError          unforeseen; details are in the worker's log
    └── ModelError                     about one model or its artifacts
        ├── ModelNotConfigured
        ├── UnknownModel
        ├── ModelNotAvailable          no model yet: training and calibration must come first
        ├── ModelInvalid               artifacts are there and cannot be used
        │   ├── UnsafeArtifact         they name code that loading would run
        │   ├── IncompleteArtifact     truncated, or changing while being read
        │   └── InvalidCalibration
        ├── StaleCalibration           the calibration is older than the model
        └── ReloadFailed

An error's docstring is its message; `{facts}` in it are the keyword arguments, which are also attributes. Errors cross
the queue as code, message and facts (`to_wire`), and come back as the same class (`from_wire`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class UqueueError(Exception):
    """uqueue failed."""

    code: ClassVar[str] = "uqueue_error"

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:
        self.facts: dict[str, Any] = facts
        self.message = message if message is not None else self._template().format(**facts)
        super().__init__(self.message)

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no fact {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)

    @classmethod
    def _template(cls) -> str:
        return " ".join(inspect.cleandoc(cls.__doc__ or cls.code).split())

    def to_wire(self) -> dict[str, Any]:
        """Return `{"code", "message", "facts"}`; facts that JSON cannot carry travel as text."""
        plain = (str, int, float, bool, type(None), list, dict)
        facts = {name: value if isinstance(value, plain) else str(value) for name, value in self.facts.items()}
        return {"code": self.code, "message": self.message, "facts": facts}


def _rebuild(cls: type[UqueueError], message: str, facts: dict[str, Any]) -> UqueueError:
    return cls(message, **facts)


def from_wire(wire: Mapping[str, Any]) -> UqueueError:
    """Return the error that `to_wire` described; a code this version does not know becomes a `JobFailed`."""
    cls = by_code().get(str(wire.get("code")), JobFailed)
    facts = wire.get("facts") or {}
    return cls(str(wire.get("message", "")), **{str(name): value for name, value in dict(facts).items()})


def all_errors() -> Iterator[type[UqueueError]]:
    """Yield every class of the tree, parents before children."""
    pending: list[type[UqueueError]] = [UqueueError]
    while pending:
        cls = pending.pop(0)
        yield cls
        pending = cls.__subclasses__() + pending


def by_code() -> dict[str, type[UqueueError]]:
    return {cls.code: cls for cls in all_errors()}


class SettingsError(UqueueError):
    """{problems}"""

    code = "settings"


class ServiceUnreachable(UqueueError):
    """{service} at {url} does not answer: {reason}. Check that it runs and that the UQUEUE_*_URL settings name it."""

    code = "unreachable"


class InputError(UqueueError):
    """The request was refused before anything was enqueued: {reason}."""

    code = "input"


class InvalidFeatures(InputError):
    """features: {reason}."""

    code = "invalid_features"


class InvalidMessage(InputError):
    """The message is not a uqueue request: {reason}."""

    code = "invalid_message"


class PayloadTooLarge(InputError):
    """The job would travel as {size_bytes} bytes; UQUEUE_MAX_INLINE_BYTES allows {limit_bytes}. Split the rows into
    several jobs."""

    code = "payload_too_large"


class JobError(UqueueError):
    """Job {job_id}: {reason}."""

    code = "job"


class JobNotFound(JobError):
    """No job {job_id} is known here: it was never accepted, or its record is past its retention."""

    code = "job_not_found"


class JobNotFinished(JobError, TimeoutError):
    """Job {job_id} is still {state} after {timeout_seconds} s. It goes on; ask again later."""

    code = "job_not_finished"


class JobCancelled(JobError):
    """Job {job_id} was cancelled."""

    code = "job_cancelled"


class JobExpired(JobError):
    """Job {job_id} expired: no worker had started it in time."""

    code = "job_expired"


class ResultExpired(JobError):
    """Job {job_id} finished ({state}), but its result is past its retention and was dropped."""

    code = "result_expired"


class IdempotencyConflict(JobError):
    """The idempotency key {key!r} already belongs to job {job_id}, which carries another request."""

    code = "idempotency_conflict"


class JobFailed(JobError):
    """Job {job_id} failed: {reason}."""

    code = "job_failed"


class JobTimeLimit(JobFailed):
    """Job {job_id} was stopped at its time limit of {limit_seconds} s."""

    code = "job_time_limit"


class JobAbandoned(JobFailed):
    """Job {job_id} was given up after {attempts} attempts, each of which ended with its worker process."""

    code = "job_abandoned"


class InternalError(JobFailed):
    """The worker met an unforeseen problem. Its log has the details under reference {reference}."""

    code = "internal"


class ModelError(UqueueError):
    """Model {model}: {reason}."""

    code = "model"


class ModelNotConfigured(ModelError):
    """No model source is configured. Set UQUEUE_WORKSPACE_ROOT to the folder that holds models/ and state/."""

    code = "model_not_configured"


class UnknownModel(ModelError):
    """No model {model!r} is served here; there is {served}."""

    code = "unknown_model"


class ModelNotAvailable(ModelError):
    """Model {model}: {missing} is missing. A training and calibration run must come first."""

    code = "model_not_available"


class ModelInvalid(ModelError):
    """{file}: {reason}."""

    code = "model_invalid"


class UnsafeArtifact(ModelInvalid):
    """{file}: refused, because it names {name}, which is not on the list of what a model may hold{hint}."""

    code = "unsafe_artifact"


class IncompleteArtifact(ModelInvalid):
    """{file}: {reason}. It looks half-written; it is read again at the next poll."""

    code = "incomplete_artifact"


class InvalidCalibration(ModelInvalid):
    """{file}: {field} {reason}."""

    code = "invalid_calibration"


class StaleCalibration(ModelError):
    """Model {model}: the calibration is older than the model, so the intervals would not be calibrated for it. Run the
    calibration again."""

    code = "stale_calibration"


class ReloadFailed(ModelError):
    """Model {model}: version {version} was not taken over ({reason}). The old one keeps serving."""

    code = "reload_failed"
