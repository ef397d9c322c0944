"""What a configuration is refused for before there is a run: values that its steps could not follow.

Types and ranges are checked where it is read; here is what depends on the workshop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from uqueue_config.learning.runs import RunConfig
from uqueue_worker.learning.crafting import CRAFTERS, ScenarioCrafter
from uqueue_worker.learning.errors import RunConfigInvalid
from uqueue_worker.learning.models.training import ForestSettings
from uqueue_worker.learning.repository.repository import ScenarioRepository

if TYPE_CHECKING:
    from uqueue_worker.learning.engine.workshop import Workshop

#: What a run calls the deployment distribution of whoever does it.
ANY_DEPLOYMENT = "default"
#: A run goes for larger values.
_SMALLER_IS_BETTER = (
    "log_loss",
    "brier",
    "ece",
    "mae",
    "rmse",
    "interval_score",
    "pinball_loss",
    "mean_interval_width",
)


def check_config(config: RunConfig, workshop: Workshop) -> None:
    """Raise RunConfigInvalid that names everything which a run of this workshop could not follow."""
    problems = [
        *_deployment_problems(config, workshop.deployment_name),
        *_crafter_problems(config, _known_crafters(workshop)),
        *_strategy_problems(config, workshop),
        *_metric_problems(config),
        *workshop.trainer.problems(config),
    ]
    if problems:
        raise RunConfigInvalid(reason="; ".join(problems))


def class_problems(config: RunConfig, classes: Sequence[str]) -> list[str]:
    """Return what is wrong with the classes that a configuration names."""
    unknown = [name for name in config.critical_classes if name not in classes]
    known = ", ".join(classes)
    return [f"critical_classes: the model has no class {', '.join(unknown)}; it has {known}"] if unknown else []


def forest_problems(given: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the hyper-parameters of a forest."""
    known = [one.name for one in fields(ForestSettings)]
    found = [f"training.{name}: there is no such value; there are {', '.join(known)}" for name in given.keys() - known]
    for name, value in given.items():
        whole = name in ("n_estimators", "min_samples_leaf")
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if whole and not (number and value >= 1):
            found.append(f"training.{name}: expected a whole number from 1")
        elif name == "max_features" and not (number and 0 < value <= 1):
            found.append("training.max_features: expected a number above 0, at most 1")
    return sorted(found)


def _deployment_problems(config: RunConfig, name: str | None) -> Iterator[str]:
    if config.deployment not in (ANY_DEPLOYMENT, name):
        known = ANY_DEPLOYMENT if name is None else f"{name!r} or {ANY_DEPLOYMENT!r}"
        yield f"deployment: there is no distribution {config.deployment!r} here; expected {known}"


def _known_crafters(workshop: Workshop) -> Sequence[str]:
    repository = workshop.repository
    crafter = repository.crafter if isinstance(repository, ScenarioRepository) else None
    return crafter.known if isinstance(crafter, ScenarioCrafter) else tuple(CRAFTERS)


def _crafter_problems(config: RunConfig, known: Sequence[str]) -> Iterator[str]:
    unknown = [name for name in config.crafter_order if name not in known]
    if unknown:
        yield f"crafter_order: no crafting strategy is called {', '.join(unknown)}; there are {', '.join(known)}"


def _strategy_problems(config: RunConfig, workshop: Workshop) -> Iterator[str]:
    try:
        workshop.strategy(config)
    except (TypeError, ValueError, AttributeError) as error:
        yield f"strategy_parameters: {config.strategy}: {str(error).rpartition('__init__() ')[2]}"


def _metric_problems(config: RunConfig) -> Iterator[str]:
    if config.target_metric in _SMALLER_IS_BETTER:
        yield f"target_metric: {config.target_metric} is better the smaller it is; name one that is better the larger"
