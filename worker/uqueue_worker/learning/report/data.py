"""What a report is made of: the records of a run, the feedback of its models, its scenarios, and other policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.runs import CycleRecord, DatasetEntry, Evaluation, RunRecord
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario

if TYPE_CHECKING:
    from uqueue_worker.learning.engine.store import PartTime

TARGETED = "targeted"


@dataclass(frozen=True)
class Arm:
    """One policy: `curves` has one list per seed, the metric on the test set at the start and after each cycle."""

    name: str
    title: str
    curves: tuple[tuple[float, ...], ...]

    def at(self, cycle: int) -> list[float]:
        """Return the metric of every seed after so many cycles; 0 is the start."""
        return [curve[cycle] for curve in self.curves]


@dataclass(frozen=True)
class Comparison:
    """Policies under one budget. The n-th curves of all arms start from the same model and the same data (pairs).

    reference  per seed, the metric of a model trained on the start set and the whole pool
    """

    metric: str
    seeds: tuple[int, ...]
    samples_per_cycle: int
    arms: tuple[Arm, ...]
    reference: tuple[float, ...] = ()

    @property
    def cycles(self) -> int:
        return min((len(curve) for arm in self.arms for curve in arm.curves), default=1) - 1

    def arm(self, name: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def baselines(self) -> tuple[Arm, ...]:
        return tuple(arm for arm in self.arms if arm.name != TARGETED)


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    spots, suggestions  by cycle
    feedback            by `Evaluation.uri`, as far as it could be read
    scenarios           by id: those of the pool's samples, and those that the run made
    parents             by scenario id, the scenario that it is a variation of
    commands            what was typed, for people who want to do it again
    parts               when the parts of its steps were done
    field_sets          labelled samples from the field that were given for it
    """

    run: RunRecord
    cycles: tuple[CycleRecord, ...]
    spots: Mapping[int, Sequence[WeakSpot]] = field(default_factory=dict)
    suggestions: Mapping[int, Sequence[ModifyScenario | CreateScenario]] = field(default_factory=dict)
    feedback: Mapping[str, ModelPerformanceData] = field(default_factory=dict)
    scenarios: Mapping[str, ScenarioDefinition] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    commands: tuple[str, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[PartTime] = ()
    field_sets: Sequence[DatasetEntry] = ()

    @property
    def metric(self) -> str:
        return self.run.config.target_metric

    @property
    def done(self) -> tuple[CycleRecord, ...]:
        """The cycles that came to their end."""
        return tuple(cycle for cycle in self.cycles if cycle.state == "completed")

    def read(self, evaluation: Evaluation | None) -> ModelPerformanceData | None:
        """Return the feedback of an evaluation, None where there is none."""
        return None if evaluation is None else self.feedback.get(evaluation.uri)

    def in_service(self, split: str) -> list[Evaluation | None]:
        """Return the evaluations (`evaluation`, `test`) of the model in service, at the start and after each cycle."""
        found = [getattr(self.done[0], f"{split}_before")] if self.done else []
        for cycle in self.done:
            after = getattr(cycle, f"{split}_after")
            found.append(after if cycle.promoted else getattr(cycle, f"{split}_before"))
        return found
