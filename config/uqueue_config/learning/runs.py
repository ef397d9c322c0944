"""Runs of active learning: their configuration, where they stand, and what each cycle did.

Everything here is JSON-able. Store, client, gateway and report read the same records.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError

from uqueue_config.learning.errors import RunConfigInvalid
from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.record import Record
from uqueue_config.learning.references import DatasetRef, ModelRef, ScenarioRef
from uqueue_config.learning.settings import RunDefaults
from uqueue_config.learning.values import Count, Identifier, JsonValue, Number, Score

RunStatus = Literal["pending", "running", "waiting", "cancelling", "cancelled", "completed", "failed"]
CycleState = Literal[
    "created",
    "evaluating",
    "prioritising",
    "crafting",
    "generating",
    "awaiting_approval",
    "training",
    "re_evaluating",
    "completed",
    "failed",
    "skipped",
]
StopReason = Literal[
    "converged", "target_reached", "cycles_spent", "budget_spent", "no_weak_spots", "repeated_failures", "manual"
]
Role = Literal["training", "pool", "test", "field"]
ENDED: tuple[RunStatus, ...] = ("cancelled", "completed", "failed")
CYCLE_ENDED: tuple[CycleState, ...] = ("completed", "failed", "skipped")


class RunConfig(RunDefaults):
    """What a run does. Everything that `LearningSettings` has, and what is the run's own.

    The three data sets are drawn once: pool and test set from the deployment distribution. A run that continues
    another one draws the pool only, and needs a seed of its own.
    """

    deployment: Identifier = Field("default", description="Name of the deployment distribution.")
    model: Identifier = Field("alm_classifier", description="Name of the model.")
    start_version: Identifier | None = Field(None, description="Version to start from; trained first unless set.")
    continues: Identifier | None = Field(
        None,
        description="Run that has ended and is continued: what it trained on and its pool are the first training set, "
        "its test set is kept, a pool is drawn anew.",
    )
    start_samples: int = Field(500, ge=1, description="Samples of the first training set.")
    pool_samples: int = Field(1200, ge=1, description="Samples of the feedback pool.")
    test_samples: int = Field(6000, ge=1, description="Samples of the frozen test set.")
    samples_per_part: int = Field(16, ge=1, description="Samples of one generating task, at most.")
    strategy_parameters: dict[str, JsonValue] = Field(default_factory=dict, description="Arguments of the strategy.")
    critical_classes: tuple[Identifier, ...] = Field((), description="Classes whose recall the guard watches.")
    critical_recall_loss: Score = Field(0.03, description="Loss of recall in one of them above which none is promoted.")
    training: dict[str, JsonValue] = Field(default_factory=dict, description="Hyper-parameters of the training hook.")

    @classmethod
    def read(cls, message: Any) -> Self:
        """Return the configuration that a mapping describes. Raises RunConfigInvalid naming every problem."""
        try:
            return cls.model_validate(message)
        except ValidationError as error:
            raise RunConfigInvalid(reason=problems_of(error)) from None

    @classmethod
    def from_settings(cls, settings: RunDefaults, **changes: Any) -> Self:
        """Return the configuration of these settings; `changes` win. Raises RunConfigInvalid."""
        given = {name: getattr(settings, name) for name in RunDefaults.model_fields}
        return cls.read({**given, **changes})

    @property
    def config_hash(self) -> str:
        """SHA-256 in hexadecimal over the canonical JSON of the configuration."""
        told = self.model_dump(mode="json")
        if self.continues is None:
            del told["continues"]  # so that runs from before this value have the hash that they had
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class DatasetEntry(Record):
    """A registered data set. `content_sha256` is over the samples without run id and time of generation, so that two
    runs that did the same have the same one; `cycle` is None for the three that are drawn at the start, and of samples
    from the field the first that they count in."""

    name: Identifier
    role: Role
    cycle: Count | None = None
    ref: DatasetRef
    content_sha256: str
    requested: Count
    rejected: Count = 0


class Evaluation(Record):
    """An evaluation of a model version; the whole feedback is the JSON file at `uri`."""

    model: ModelRef
    dataset: str
    dataset_sha256: str
    cycle: Count
    n_samples: Count
    metrics: dict[str, Number] = Field(default_factory=dict)
    recalls: dict[str, Score | None] = Field(default_factory=dict)
    uri: Identifier
    sha256: str


class Failure(Record):
    """Why a step did not do what it should."""

    code: str
    message: str
    retryable: bool = False
    step: str | None = None


class Allotment(Record):
    """Samples to be made from one version of one scenario, for one weak spot or (None) for exploration.

    `group` says why: "spot", or "exploration". `seed` is that of the simulation.
    """

    scenario: ScenarioRef
    weakness_id: str | None = None
    group: Literal["spot", "exploration"]
    samples: int = Field(ge=1)
    seed: Count


class CycleRecord(Record):
    """One cycle: where it stands, and its history.

    evaluation_before, test_before  the model that the cycle started with
    evaluation_after, test_after    the candidate that it trained; pool and frozen test set
    field_evaluations               the model that the cycle started with, on samples from the field
    model_after                     the model in service after it: the candidate if `promoted`
    seconds                         by state, how long the cycle was in it; approval apart
    training_seconds                the training alone
    """

    run_id: Identifier
    cycle: Count
    state: CycleState = "created"
    config_hash: str
    seeds: dict[str, Count] = Field(default_factory=dict)
    model_before: ModelRef | None = None
    candidate: ModelRef | None = None
    model_after: ModelRef | None = None
    promoted: bool | None = None
    promotion_reason: str | None = None
    evaluation_before: Evaluation | None = None
    evaluation_after: Evaluation | None = None
    test_before: Evaluation | None = None
    test_after: Evaluation | None = None
    field_evaluations: tuple[Evaluation, ...] = ()
    feedback_reused: bool = False
    spot_ids: tuple[str, ...] = ()
    suggestion_ids: tuple[str, ...] = ()
    plan: tuple[Allotment, ...] = ()
    dataset: DatasetEntry | None = None
    training_datasets: tuple[DatasetRef, ...] = ()
    samples_requested: Count = 0
    samples_generated: Count = 0
    samples_rejected: Count = 0
    failures: tuple[Failure, ...] = ()
    stop_reason: StopReason | None = None
    seconds: dict[str, Number] = Field(default_factory=dict)
    training_seconds: Number | None = None
    code_versions: dict[str, str] = Field(default_factory=dict)
    started_at_utc: AwareDatetime
    finished_at_utc: AwareDatetime | None = None


class RunRecord(Record):
    """A run: where it stands. `revision` counts its changes; every change names the revision that it starts from."""

    run_id: Identifier
    idempotency_key: Identifier | None = None
    status: RunStatus = "pending"
    config: RunConfig
    config_hash: str
    revision: Count = 0
    cycle: Count = 0
    state: CycleState = "created"
    stop_reason: StopReason | None = None
    error: Failure | None = None
    model: ModelRef | None = None
    datasets: tuple[DatasetEntry, ...] = ()
    feedback: Evaluation | None = None
    test: Evaluation | None = None
    samples_spent: Count = 0
    skipped_in_a_row: Count = 0
    best_value: Number | None = None
    cycles_without_gain: Count = 0
    created_at_utc: AwareDatetime
    updated_at_utc: AwareDatetime

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def dataset(self, role: Role) -> DatasetEntry | None:
        """Return the first data set of a role: the pool, the test set, or the start set."""
        return next((one for one in self.datasets if one.role == role), None)

    def training_sets(self) -> tuple[DatasetEntry, ...]:
        """Return the start set and what each cycle added to it, in that order."""
        return tuple(one for one in self.datasets if one.role == "training")
