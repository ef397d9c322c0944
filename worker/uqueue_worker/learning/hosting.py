"""What one process of a learning worker owns, made of the settings on first use: never before a fork, never twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from uqueue_config.errors import SettingsError
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.requests import Evaluate, Request
from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import Settings
from uqueue_worker.learning.answering import Services, answer
from uqueue_worker.learning.asked import Later
from uqueue_worker.learning.asked_evaluations import AskedEvaluations
from uqueue_worker.learning.breaker import CircuitBreaker, SharedOpenings
from uqueue_worker.learning.crafting.levers import focus_parameter
from uqueue_worker.learning.engine import Engine, Evaluator, InterfaceEvaluator, NotYet, local_interfaces
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.interfaces import ModelInterface
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.queue import QueueBackedModelInterface, QueueEvaluator, QueueOptions
from uqueue_worker.learning.post import Post, QueueDispatcher
from uqueue_worker.learning.reporting import report_text
from uqueue_worker.learning.repository import ScenarioRepository, database_of, postgres_repository
from uqueue_worker.learning.subject import Subject, crafter_of, load_subject
from uqueue_worker.learning.tracking import JsonLinesTracker
from uqueue_worker.learning.working import Tasks

#: Folders below the data folder.
RUNS, MODELS, TRACKING, COLUMNS = "runs", "models", "tracking", "columns"
#: How long samples that come along with a request may keep a process; data sets that it names keep none.
ASKED_SECONDS = 60.0
_AUTHOR = "learning worker"
#: Scenarios that a process remembers for look-ups from outside while the database is down, about 2 kB each.
_COPIES = 1000


class HostedEngine(Engine):
    """An engine that makes runs about one subject only."""

    def __init__(self, subject: Subject, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._subject = subject

    def create(self, config: RunConfig, *, run_id: str | None = None, idempotency_key: str | None = None) -> RunRecord:
        self._subject.check(config)
        return super().create(config, run_id=run_id, idempotency_key=idempotency_key)


class BreakingEvaluator:
    """Asks an evaluator that is not asked for a while when it failed too often."""

    def __init__(self, evaluator: Evaluator, breaker: CircuitBreaker) -> None:
        self._evaluator = evaluator
        self._breaker = breaker

    def evaluate(
        self, dataset: str, model: ModelRef, *, n_samples: int, every_sample: bool
    ) -> ModelPerformanceData | NotYet:
        with self._breaker.call():
            return self._evaluator.evaluate(dataset, model, n_samples=n_samples, every_sample=every_sample)


class Host:
    """post      reaches the other learning workers
    openings  where breakers tell those of other processes that they opened
    overtime  what is raised in a task that takes too long
    """

    def __init__(
        self,
        settings: Settings,
        learning: LearningSettings,
        post: Post,
        *,
        openings: SharedOpenings | None = None,
        overtime: tuple[type[Exception], ...] = (),
    ) -> None:
        self._settings = settings
        self._learning = learning
        self._post = post
        self._openings = openings
        self._overtime = overtime

    @cached_property
    def subject(self) -> Subject:
        return load_subject(self._learning.subject)

    @cached_property
    def data(self) -> Path:
        return data_dir(self._learning)

    @cached_property
    def models(self) -> Path:
        return self._learning.models_dir or self.data / MODELS

    @cached_property
    def _database(self) -> Any:
        return database_of(self._learning)

    @cached_property
    def repository(self) -> ScenarioRepository:
        crafter = crafter_of(self._learning, self.subject)
        return postgres_repository(self._database, crafter=crafter, focus_parameter=focus_parameter, changed_by=_AUTHOR)

    @cached_property
    def _dispatcher(self) -> QueueDispatcher:
        return QueueDispatcher(self._post, self._learning.stale_seconds)

    @cached_property
    def engine(self) -> Engine:
        from uqueue_worker.learning.engine.postgres_store import PostgresRunStore

        workshop = self.subject.workshop(self.repository, self._evaluator(), models=self.models, root=self.data / RUNS)
        store = PostgresRunStore(self._database)
        return HostedEngine(
            self.subject, store, workshop, self._dispatcher, tracker=JsonLinesTracker(self.data / TRACKING)
        )

    @cached_property
    def tasks(self) -> Tasks:
        stale = self._learning.stale_seconds
        return Tasks(self.engine, self._dispatcher, self._post, stale_seconds=stale, overtime=self._overtime)

    @cached_property
    def services(self) -> Services:
        engine, repository = self.engine, self.repository
        report: Callable[..., str] = partial(report_text, engine.store, repository)
        patient = self._patient_for(ASKED_SECONDS)
        # Runs read no copies: what they make of a scenario must be what it is now.
        look_up = repository.with_copies(_COPIES)
        return Services(engine, repository, patient, report, self._defaults, (self.data,), look_up)

    def answer(self, request: Request[Any], token: str) -> BaseModel | Later:
        """Return the answer to a request, LATER where `go_on_with` gives it. Raises an ActiveLearningError."""
        if isinstance(request, Evaluate) and request.dataset is not None and self._evaluations is not None:
            return self._evaluations.begin(token, request.dataset, request.model_version)
        return answer(request, self.services)

    def go_on_with(self, token: str, handle: Mapping[str, Any]) -> BaseModel | Later:
        """Go on with an evaluation that was asked for. Raises as evaluations do."""
        if self._evaluations is None:
            raise ActiveLearningError(reason="this learning worker evaluates nothing through the queue")
        return self._evaluations.go_on(token, handle)

    @cached_property
    def _evaluations(self) -> AskedEvaluations | None:
        model = self.model
        return AskedEvaluations(model, self._post) if isinstance(model, QueueBackedModelInterface) else None

    @cached_property
    def _defaults(self) -> RunConfig:
        return self.subject.run_config(self._learning)

    @cached_property
    def model(self) -> ModelInterface:
        """What evaluates data sets below the data folder."""
        return self._patient_for(QueueOptions().deadline_seconds)

    def _patient_for(self, seconds: float) -> ModelInterface:
        where: dict[str, Any] = {"root": self.models, "name": self.subject.model, "data_roots": [self.data]}
        if self._learning.evaluate == "local":
            return LocalModelInterface(**where)
        options = QueueOptions(deadline_seconds=seconds)
        columns = self.data / COLUMNS  # of no use as a data set: those are Avro files
        return QueueBackedModelInterface(**where, settings=self._settings, queue=options, columns_folder=columns)

    def _evaluator(self) -> Evaluator:
        if isinstance(self.model, QueueBackedModelInterface):
            return BreakingEvaluator(QueueEvaluator(self.model), CircuitBreaker("queue", shared=self._openings))
        return InterfaceEvaluator(local_interfaces(self.models, self.subject.model, [self.data]))


def data_dir(learning: LearningSettings) -> Path:
    """Return the folder that all learning workers share. Raises SettingsError where none is named."""
    if learning.data_dir is None:
        raise SettingsError("UQUEUE_LEARNING_DATA_DIR: a learning worker needs a folder for the files of its runs.")
    return learning.data_dir
