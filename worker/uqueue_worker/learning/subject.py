"""What a learning worker learns about: the one thing that whoever operates it has to bring along as code.

The setting UQUEUE_LEARNING_SUBJECT names a function, `module:function`, which returns a `Subject`. It is the operator's
setting, like the module that `celery -A` names; nothing that a run, a scenario or a message says is ever imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uqueue_config.errors import SettingsError
from uqueue_config.learning.model_manifest import Feature
from uqueue_config.learning.runs import RunConfig
from uqueue_config.learning.settings import LearningSettings, RunDefaults
from uqueue_worker.learning.crafting import ScenarioCrafter
from uqueue_worker.learning.crafting.families import ClassFamilies
from uqueue_worker.learning.engine import (
    DeploymentDistribution,
    Evaluator,
    ForestTrainer,
    Workshop,
    strategies,
    suggestions,
)
from uqueue_worker.learning.errors import RunConfigInvalid
from uqueue_worker.learning.generator import MLDataGenerator
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface

_VARIABLE = "UQUEUE_LEARNING_SUBJECT"
_ORDER_VARIABLE = "UQUEUE_LEARNING_CRAFTER_ORDER"


@dataclass(frozen=True)
class Subject:
    """model       name of the classifier, which is also its name in the service's catalog
    name        of the deployment distribution, as runs give it
    classes     in the order of the model's outputs
    features    paths, or entries of a manifest, in the order of the model's columns
    families    which scenario family makes samples of a class; by event type unless given
    deployment  what pool, test set and exploration are drawn from
    start       what the first training set is drawn from; the same unless given
    defaults    what a run's configuration has where neither the settings nor the run say anything
    """

    model: str
    name: str
    classes: Sequence[str]
    features: Sequence[Feature | str]
    generator: MLDataGenerator
    deployment: DeploymentDistribution
    start: DeploymentDistribution | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    families: ClassFamilies = field(default_factory=ClassFamilies)

    def run_config(self, settings: RunDefaults) -> RunConfig:
        """Return the configuration of a run that says nothing. Raises RunConfigInvalid."""
        set_there = {name: getattr(settings, name) for name in RunDefaults.model_fields}
        own = {name: value for name, value in self.defaults.items() if name not in settings.model_fields_set}
        return RunConfig.read({**set_there, "model": self.model, "deployment": self.name, **own})

    def check(self, config: RunConfig) -> None:
        """Raise RunConfigInvalid for a run about something else."""
        for name, expected in (("model", self.model), ("deployment", self.name)):
            if getattr(config, name) != expected:
                raise RunConfigInvalid(reason=f"{name}: the learning worker knows {expected!r} and no other")

    def workshop(
        self, repository: ScenarioRepositoryInterface, evaluator: Evaluator, *, models: Path, root: Path
    ) -> Workshop:
        """Return what a run about it works with; `models` is the folder of versions, `root` that of the runs' files."""
        return Workshop(
            repository=repository,
            evaluator=evaluator,
            trainer=ForestTrainer(models, self.features, self.classes),
            generator=self.generator,
            deployment=self.deployment,
            deployment_name=self.name,
            start=self.start,
            root=root,
            strategy=strategies(repository),
            suggest=suggestions(repository, families=self.families),
        )


def crafter_of(settings: LearningSettings, subject: Subject) -> ScenarioCrafter:
    """Return what makes scenarios from features, in the order of the settings unless a run has another.

    Raises SettingsError for a name that no strategy has.
    """
    try:
        return ScenarioCrafter(settings.crafter_order, subject.families, seed=settings.random_seed)
    except ValueError as error:
        raise SettingsError(f"{_ORDER_VARIABLE}: {error}.") from None


def load_subject(named: str) -> Subject:
    """Return what `module:function` returns. Raises SettingsError where there is no such function, or no subject."""
    module, _, function = named.partition(":")
    try:
        subject = getattr(importlib.import_module(module), function)()
    except Exception as error:  # it is the operator's code
        raise SettingsError(f"{_VARIABLE}: {named} cannot be loaded ({type(error).__name__}: {error}).") from error
    if not isinstance(subject, Subject):
        raise SettingsError(f"{_VARIABLE}: {named} returned no Subject, but {type(subject).__name__}.")
    return subject
