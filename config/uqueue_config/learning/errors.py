"""Every error that active learning raises on purpose; * = trying again may help (`retryable`).

    ActiveLearningError
    ├── EmptyDataset                   nothing to evaluate
    ├── DatasetNotFound
    ├── DatasetFormat                  the data set is there and cannot be read
    ├── FeatureMismatch                its samples lack what the model needs
    ├── ModelNotFound
    ├── ModelVersionNotFound
    ├── ModelIntegrity                 not the bytes that its manifest names
    ├── UnsupportedModelFormat
    ├── ModelNotFitted
    ├── EndpointUnavailable *
    ├── EndpointTimeout *
    ├── EndpointAuth
    ├── EndpointContract               the endpoint answered what its dialect does not allow
    ├── QueueTimeout *
    ├── PartialEvaluation              too many chunks failed for good
    ├── RepositoryUnavailable *
    ├── ScenarioNotFound
    ├── ScenarioConflict               somebody else changed it meanwhile
    ├── ScenarioInvalid
    ├── ScenarioParameterError         its family refuses the parameters
    ├── UnknownScenarioClass           not on the allow-list; nothing named in data is imported
    ├── CraftingFailed
    ├── GenerationFailed
    ├── BudgetExhausted
    ├── RunConfigInvalid
    ├── RunNotFound
    ├── RunConflict                    not in the state that this needs
    ├── CircuitOpen *
    ├── SuggestionNotFound
    ├── MappingInvalid                 no such feature in a suggestion, or no such parameter in its scenario
    ├── NoLearningWorker *             nobody took the request
    ├── LearningBusy *
    ├── AnswerLate *                   begun, and not answered in time
    └── AnswerTooLarge

They are part of the one tree (`uqueue_config.errors`): docstrings are messages, facts are attributes, they cross the
queue by code. `context` is the facts under the name that the interfaces use.
"""

from __future__ import annotations

from typing import Any, ClassVar

from uqueue_config.errors import UqueueError


class ActiveLearningError(UqueueError):
    """Active learning failed: {reason}."""

    code = "active_learning"
    retryable: ClassVar[bool] = False

    @property
    def context(self) -> dict[str, Any]:
        """What the error is about: the keyword arguments that it was raised with."""
        return self.facts


class EmptyDataset(ActiveLearningError):
    """The data set {dataset} holds no samples that can be used. Give at least one."""

    code = "empty_dataset"


class DatasetNotFound(ActiveLearningError):
    """There is no data set at {dataset}. Check the path, and that it lies below a configured root."""

    code = "dataset_not_found"


class DatasetFormat(ActiveLearningError):
    """The data set {dataset} cannot be read: {reason}."""

    code = "dataset_format"


class FeatureMismatch(ActiveLearningError):
    """The samples do not have the features that the model was made for: {reason}."""

    code = "feature_mismatch"


class ModelNotFound(ActiveLearningError):
    """There is no model {model}."""

    code = "model_not_found"


class ModelVersionNotFound(ActiveLearningError):
    """Model {model} has no version {version}."""

    code = "model_version_not_found"


class ModelIntegrity(ActiveLearningError):
    """{file}: {reason}. It is not what was saved and is not loaded."""

    code = "model_integrity"


class UnsupportedModelFormat(ActiveLearningError):
    """{file}: models of this format are not loaded: {reason}."""

    code = "unsupported_model_format"


class ModelNotFitted(ActiveLearningError):
    """Model {model} was never trained; train it before it is evaluated."""

    code = "model_not_fitted"


class EndpointUnavailable(ActiveLearningError):
    """The model endpoint {url} does not answer: {reason}."""

    code = "endpoint_unavailable"
    retryable = True


class EndpointTimeout(ActiveLearningError):
    """The model endpoint {url} did not answer within {timeout_seconds} s."""

    code = "endpoint_timeout"
    retryable = True


class EndpointAuth(ActiveLearningError):
    """The model endpoint {url} refuses the credentials ({reason}). Check them."""

    code = "endpoint_auth"


class EndpointContract(ActiveLearningError):
    """The model endpoint {url} answered what it must not: {reason}."""

    code = "endpoint_contract"


class QueueTimeout(ActiveLearningError):
    """The queue did not finish within {timeout_seconds} s: {reason}."""

    code = "queue_timeout"
    retryable = True


class PartialEvaluation(ActiveLearningError):
    """{failed} of {samples} samples could not be evaluated, more than the {limit} that are allowed."""

    code = "partial_evaluation"


class RepositoryUnavailable(ActiveLearningError):
    """The scenario repository does not answer: {reason}."""

    code = "repository_unavailable"
    retryable = True


class ScenarioNotFound(ActiveLearningError):
    """There is no scenario {scenario_id}."""

    code = "scenario_not_found"


class ScenarioConflict(ActiveLearningError):
    """Scenario {scenario_id} is at version {found}, not at {expected}: it was changed meanwhile. Read it again."""

    code = "scenario_conflict"


class ScenarioInvalid(ActiveLearningError):
    """The scenario is not valid: {reason}."""

    code = "scenario_invalid"


class ScenarioParameterError(ActiveLearningError):
    """The parameters of scenario family {family} are not valid: {reason}."""

    code = "scenario_parameters"


class UnknownScenarioClass(ActiveLearningError):
    """No scenario family {module}.{name} is registered here. Nothing that data names is imported; register the family
    at start."""

    code = "unknown_scenario_class"


class CraftingFailed(ActiveLearningError):
    """No scenario could be made for weak spot {weakness_id}: {reason}."""

    code = "crafting_failed"


class GenerationFailed(ActiveLearningError):
    """The samples could not be generated: {reason}."""

    code = "generation_failed"


class BudgetExhausted(ActiveLearningError):
    """The budget of run {run_id} is spent: {reason}."""

    code = "budget_exhausted"


class RunConfigInvalid(ActiveLearningError):
    """The configuration of the run is not valid: {reason}."""

    code = "run_config_invalid"


class RunNotFound(ActiveLearningError):
    """There is no run {run_id}."""

    code = "run_not_found"


class SuggestionNotFound(ActiveLearningError):
    """There is no suggestion {suggestion_id}."""

    code = "suggestion_not_found"


class MappingInvalid(ActiveLearningError):
    """Suggestion {suggestion_id} cannot be mapped like this: {reason}."""

    code = "mapping_invalid"


class RunConflict(ActiveLearningError):
    """Run {run_id} is {status}: {reason}."""

    code = "run_conflict"


class CircuitOpen(ActiveLearningError):
    """{target} failed too often and is not asked for another {retry_after_seconds} s."""

    code = "circuit_open"
    retryable = True


class NoLearningWorker(ActiveLearningError):
    """No learning worker took the request within {waited_seconds} s, so nothing was done. Start one: `celery -A
    uqueue_worker.learning.tasks worker -Q alm,simulate,train` (the line `learning` of the Procfile)."""

    code = "no_learning_worker"
    retryable = True


class LearningBusy(ActiveLearningError):
    """The learning workers were busy with other steps for {waited_seconds} s and did not begin with the request, so
    nothing was done. Try again later."""

    code = "learning_busy"
    retryable = True


class AnswerLate(ActiveLearningError):
    """A learning worker began with the request and did not answer within {waited_seconds} s. It may still take effect;
    look before asking again."""

    code = "answer_late"
    retryable = True


class AnswerTooLarge(ActiveLearningError):
    """The answer would have {size_bytes} bytes; {limit_bytes} are allowed. Ask for less: a page, one cycle, a report in
    another format."""

    code = "answer_too_large"
