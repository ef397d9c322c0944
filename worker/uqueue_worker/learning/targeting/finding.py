"""The scenarios of one weak spot: a variation, a crafted one, those of its class, or exploration, in that order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from uqueue_config.learning.spots import LOW_RECALL, MISCLASSIFIED, UNCERTAIN
from uqueue_worker.learning.errors import CircuitOpen, RepositoryUnavailable
from uqueue_worker.learning.sensors import sensor_type_of
from uqueue_worker.learning.targeting.spots import Spot, class_of, details, features_summary, provenance

OF_SAMPLES = (UNCERTAIN, MISCLASSIFIED)
_OF_A_CLASS = 2
_log = structlog.get_logger("uqueue.learning.manager")


class ScenarioFinder:
    """Asks a repository. What it raises is logged and counts as nothing found, unless it says that the repository
    does not answer (RepositoryUnavailable, CircuitOpen), or its methods lack parameters of the interface (TypeError).
    """

    def __init__(self, repository: Any, sensor_types: Mapping[str, str]) -> None:
        self._repository = repository
        self._sensor_types = sensor_types

    def scenarios_of(self, spot: Spot, *, explore: bool = True) -> list[Any]:
        """Return the scenarios for a spot, [] where there are none and none could be made.

        Without `explore` the repository's exploration scenario, which shows no class in particular, is none of them.
        """
        sensor_type = sensor_type_of(spot.get("sensor_id"), self._sensor_types)
        if spot.get("type") in OF_SAMPLES:
            found = self._varied(spot, sensor_type) or self._crafted(spot, sensor_type)
        elif spot.get("type") == LOW_RECALL:
            found = self._of_class(spot, sensor_type)
        else:
            found = []
        return found or (self._exploration(spot, sensor_type) if explore else [])

    def _varied(self, spot: Spot, sensor_type: str | None) -> list[Any]:
        original = details(spot).get("original_scenario_id")
        if not original:
            return []
        base = self._asked(spot, "get_scenario_by_id", scenario_id=original)
        if base is None:
            return []
        sensor = spot.get("sensor_id")
        return _listed(
            self._asked(
                spot,
                "create_scenario_variation",
                base_scenario=base,
                new_id_suffix=f"_alm_var_{spot['weakness_id']}",
                param_modifications=provenance(spot),
                sensor_context=None if sensor is None else {"sensor_id": sensor, "sensor_type": sensor_type},
            )
        )

    def _crafted(self, spot: Spot, sensor_type: str | None) -> list[Any]:
        summary = features_summary(spot)
        if summary is None:
            return []
        return _listed(
            self._asked(
                spot,
                "craft_scenario_from_features",
                features_summary=summary,
                base_id=f"alm_crafted_{spot['weakness_id']}",
                target_class=class_of(spot),
                sensor_type=sensor_type,
            )
        )

    def _of_class(self, spot: Spot, sensor_type: str | None) -> list[Any]:
        label = details(spot).get("class_name")
        if not label:
            return []
        asked = {"class_label": label, "sensor_type": sensor_type, "num_to_get": _OF_A_CLASS}
        return list(self._asked(spot, "get_scenarios_by_class_label", **asked) or ())

    def _exploration(self, spot: Spot, sensor_type: str | None) -> list[Any]:
        asked = {"scenario_id": f"alm_explore_{spot['weakness_id']}", "sensor_type": sensor_type}
        return _listed(self._asked(spot, "get_default_exploration_scenario", **asked))

    def _asked(self, spot: Spot, method: str, **arguments: Any) -> Any:
        ask = getattr(self._repository, method)
        check_takes(ask, **arguments)
        return attempted(lambda: ask(**arguments), spot, method)


def attempted(act: Callable[[], Any], spot: Spot, what: str) -> Any:
    """Return what `act` gives; None where it fails, which is logged and stays with the spot.

    Raises RepositoryUnavailable and CircuitOpen, which end the cycle.
    """
    try:
        return act()
    except (RepositoryUnavailable, CircuitOpen):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:500]
        _log.error("step failed for a weak spot", weakness_id=spot.get("weakness_id"), step=what, reason=reason)
        return None


def check_takes(method: Callable[..., Any], *given: Any, **named: Any) -> None:
    """Raise TypeError if a method cannot be called so: a mistake in code must not look like nothing found."""
    signature = _signature(method)
    if signature is None:
        return
    try:
        signature.bind(*given, **named)
    except TypeError as error:
        name = getattr(method, "__qualname__", repr(method))
        raise TypeError(f"{name} does not take the arguments of the interface: {error}") from None


def parameters_of(method: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that a method declares."""
    signature = _signature(method)
    return frozenset() if signature is None else frozenset(signature.parameters)


def _signature(method: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(method)
    except ValueError:  # built-in code says nothing about itself
        return None


def _listed(found: Any) -> list[Any]:
    return [] if found is None else [found]
