"""Every error uqueue raises on purpose.

    UqueueError
    ├── SettingsError                  the environment holds unknown or wrong UQUEUE_* variables
    ├── ServiceUnreachable             the broker or the result store does not answer
    ├── StoreFull                      … answers, and has no memory left to take anything in
    ├── InputError                     refused at submission, nothing was enqueued
    │   ├── InvalidFeatures
    │   ├── InvalidSamples             IQ samples that the recipe cannot use: how many, how fast, which values
    │   │   └── MalformedSamples       … that are not an array of [I, Q] at all
    │   ├── InvalidRecording           a SigMF recording that cannot be read
    │   ├── InvalidMessage
    │   ├── PayloadTooLarge
    │   └── QueueFull                  try again after `retry_after_seconds`
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
    │       ├── PayloadUnavailable     its features were not where they should have been
    │       ├── InferenceFailed        the runtime could not evaluate the model
    │       ├── ModelOutputInvalid     the model answered what cannot be: never clamped, never cached
    │       └── InternalError          unforeseen; details are in the worker's log
    ├── LetterError                    about one dead letter
    │   ├── LetterNotFound
    │   └── LetterNotReplayable
    ├── ModelError                     about one model or its artifacts
    │   ├── ModelNotConfigured
    │   ├── UnknownModel
    │   ├── ModelNotAvailable          no model yet: training and calibration must come first
    │   │   └── NothingPublished       … into the bucket or registry
    │   ├── ModelInvalid               artifacts are there and cannot be used
    │   │   ├── UnsafeArtifact         they name code that loading would run
    │   │   ├── IncompleteArtifact     truncated, or changing while being read
    │   │   ├── InvalidCalibration
    │   │   │   └── CalibrationMismatch  it was made for another stop rule, forward mode or model
    │   │   ├── InvalidChecks          what a candidate is to be checked with cannot be read
    │   │   ├── GoldenMismatch         it answers otherwise than it did when it was published
    │   │   ├── CoverageTooLow         its intervals hold too few of the labelled rows
    │   │   ├── InvalidDeclaration     what a localization model says of its inputs and outputs
    │   │   ├── InvalidManifest        what lists the files of a version cannot be read
    │   │   └── ArtifactMismatch       not the bytes that were published
    │   ├── SourceError                the bucket or registry cannot be used; what serves keeps serving
    │   │   ├── SourceUnreachable      no answer in time
    │   │   ├── SourceDenied           credentials are missing or not accepted
    │   │   ├── SourceClockSkew        this machine's clock is too far off
    │   │   └── SourceNotFound         the bucket is not there
    │   ├── VersionTaken               published before, with other content
    │   ├── StaleCalibration           the calibration is older than the model
    │   ├── VersionNotServed           a job asks for a version that cannot be had
    │   └── ReloadFailed
    └── ActiveLearningError            its branch is drawn and defined in uqueue_config.learning.errors

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
    import uqueue_config.learning.errors  # noqa: F401 - a branch of its own file, which imports this one

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


class StoreFull(UqueueError):
    """{service} at {url} is at its memory limit and takes nothing in. Try again when results have lapsed, or raise the
    limit (maxmemory)."""

    code = "store_full"


class InputError(UqueueError):
    """The request was refused before anything was enqueued: {reason}."""

    code = "input"


class InvalidFeatures(InputError):
    """features: {reason}."""

    code = "invalid_features"


class InvalidSamples(InputError):
    """IQ samples: {reason}."""

    code = "invalid_samples"


class MalformedSamples(InvalidSamples):
    """IQ samples: {reason}."""

    code = "malformed_samples"


class InvalidRecording(InputError):
    """The SigMF recording cannot be used: {reason}."""

    code = "invalid_recording"


class InvalidMessage(InputError):
    """The message is not a uqueue request: {reason}."""

    code = "invalid_message"


class PayloadTooLarge(InputError):
    """The job would travel as {size_bytes} bytes; UQUEUE_MAX_INLINE_BYTES allows {limit_bytes}. Split the rows into
    several jobs, or set UQUEUE_PAYLOAD_DIR to a folder that clients and workers share."""

    code = "payload_too_large"


class QueueFull(InputError):
    """The queue {queue} is full: UQUEUE_QUEUE_LIMIT is {limit}. {accepted} of {asked} jobs were accepted. Try again in
    {retry_after_seconds} s."""

    code = "queue_full"


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


class PayloadUnavailable(JobFailed):
    """The features of the job were to be read from the payload folder: {reason}. Check UQUEUE_PAYLOAD_DIR on both
    sides, and submit the job again."""

    code = "payload_unavailable"


class InferenceFailed(JobFailed):
    """Model {model}, version {version}, could not be evaluated: {reason}."""

    code = "inference_failed"


class ModelOutputInvalid(JobFailed):
    """Model {model}, version {version}, answered what cannot be: {reason}."""

    code = "model_output_invalid"

    def row_below(self, rows: int) -> int | None:
        """Return the first of so many rows whose answer cannot be, None where the worker did not say."""
        row = self.facts.get("row")
        return row if type(row) is int and 0 <= row < rows else None


class InternalError(JobFailed):
    """The worker met an unforeseen problem. Its log has the details under reference {reference}."""

    code = "internal"


class LetterError(UqueueError):
    """Dead letter {number}: {reason}."""

    code = "letter"


class LetterNotFound(LetterError):
    """There is no dead letter {number}, and no job of this id has one. `uqueue dead list` shows those there are."""

    code = "letter_not_found"


class LetterNotReplayable(LetterError):
    """Dead letter {number} cannot be replayed: {reason}."""

    code = "letter_not_replayable"


class ModelError(UqueueError):
    """Model {model}: {reason}."""

    code = "model"


class ModelNotConfigured(ModelError):
    """No model source is configured. Set UQUEUE_WORKSPACE_ROOT to the folder that holds models/ and state/, or
    UQUEUE_ARTIFACT_SOURCE."""

    code = "model_not_configured"


class UnknownModel(ModelError):
    """No model {model!r} is served here; there is {served}."""

    code = "unknown_model"


class ModelNotAvailable(ModelError):
    """Model {model}: {missing} is missing. A training and calibration run must come first."""

    code = "model_not_available"


class NothingPublished(ModelNotAvailable):
    """Model {model}: {missing} is missing. Publish a trained and calibrated pair there (`uqueue publish`), or correct
    UQUEUE_ARTIFACT_SOURCE."""

    code = "nothing_published"


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


class CalibrationMismatch(InvalidCalibration):
    """{file}: the calibration was made for {expected}; here it would serve with {found}. {advice}."""

    code = "calibration_mismatch"


class InvalidChecks(ModelInvalid):
    """{file}: it cannot be used to check the model: {reason}. Make it again with `uqueue publish`."""

    code = "invalid_checks"


class GoldenMismatch(ModelInvalid):
    """{file}: the golden rows are answered otherwise here than by the publisher: {reason}. The files were exchanged, or
    this worker computes something else; publish the pair again, with the uqueue version that the workers have."""

    code = "golden_mismatch"


class CoverageTooLow(ModelInvalid):
    """{file}: of {rows} labelled rows the intervals hold too few, {found}; at nominal {nominal} and {points} chance
    leaves at least {low}, but for one case in 10,000. Calibrate again, or correct the labelled rows."""

    code = "coverage_too_low"


class InvalidDeclaration(ModelInvalid):
    """{file}: the declaration of the model cannot be used: {reason}."""

    code = "invalid_declaration"


class InvalidManifest(ModelInvalid):
    """{file}: it is not a manifest of a published pair: {reason}. Publish the pair again with `uqueue publish`."""

    code = "invalid_manifest"


class ArtifactMismatch(ModelInvalid):
    """{file}: its {what} is {found}, published was {expected}. It was changed or damaged since; publish the pair
    again."""

    code = "artifact_mismatch"


class SourceError(ModelError):
    """{source} cannot be used: {reason}."""

    code = "source"


class SourceUnreachable(SourceError):
    """{source} does not answer: {reason}. Check {check} and the network; it is tried again."""

    code = "source_unreachable"


class SourceDenied(SourceError):
    """{source} refuses access: {reason}. Check {check}."""

    code = "source_denied"


class SourceClockSkew(SourceError):
    """{source} refuses requests because this machine's clock differs from its own: {reason}. Set the clock of this
    machine (NTP)."""

    code = "source_clock_skew"


class SourceNotFound(SourceError):
    """{source} is not there: {reason}. Check {check}."""

    code = "source_not_found"


class VersionTaken(ModelError):
    """{source} has a version {version} already, with other content ({content}). Publish under another --version."""

    code = "version_taken"


class StaleCalibration(ModelError):
    """Model {model}: the calibration is older than the model, so the intervals would not be calibrated for it. Run the
    calibration again."""

    code = "stale_calibration"


class VersionNotServed(ModelError):
    """Version {version} of model {model} cannot be had: {reason}. Leave the version out to be answered by the one that
    serves; `uqueue models` shows it."""

    code = "version_not_served"


class ReloadFailed(ModelError):
    """Model {model}: version {version} was not taken over ({reason}). The old one keeps serving."""

    code = "reload_failed"
