"""Modifications of a definition: which keys there are, and what they do to a copy of it.

specific_params               a mapping that is merged: mappings recurse, everything else overwrites
specific_params.a.b           one nested value; levels that are missing are made
specific_params_json, name …  a field of the definition, overwritten
alm_triggering_weak_spot_id, alm_focus_feature, alm_focus_feature_value   why; they go to the origin
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository.content import CONTENT_FIELDS, storable

WEAK_SPOT = "alm_triggering_weak_spot_id"
FOCUS_FEATURE = "alm_focus_feature"
FOCUS_VALUE = "alm_focus_feature_value"
_PARAMETERS = "specific_params"
_SHOWN = 20


@dataclass(frozen=True)
class Modifications:
    """What a mapping of modifications asks for."""

    fields: dict[str, Any] = field(default_factory=dict)
    merged: dict[str, Any] = field(default_factory=dict)
    nested: tuple[tuple[tuple[str, ...], Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def weak_spot_ids(self) -> tuple[str, ...]:
        found = self.provenance.get(WEAK_SPOT)
        return () if found is None else (found,)

    @property
    def origin(self) -> dict[str, Any]:
        """What the provenance keys say of the feature in focus."""
        names = {FOCUS_FEATURE: "focus_feature", FOCUS_VALUE: "focus_value"}
        return {ours: self.provenance[key] for key, ours in names.items() if self.provenance.get(key) is not None}

    def explicit(self) -> list[str]:
        """Return the dotted paths of the parameters that are set here."""
        whole = "specific_params_json" in self.fields
        replaced = ScenarioDefinition.model_construct(**self.fields).specific_params if whole else {}
        return [*_leaves(replaced), *_leaves(self.merged), *(".".join(path) for path, _ in self.nested)]

    def applied_to(self, definition: ScenarioDefinition) -> ScenarioDefinition:
        """Return the definition with everything changed that is asked for. Raises ScenarioInvalid."""
        changed = definition.replace(**self.fields)
        parameters = _merged(changed.specific_params, self.merged)
        for path, value in self.nested:
            _set(parameters, path, value)
        return changed.replace(specific_params_json=parameters)


def read_modifications(given: Mapping[str, Any], *, provenance: bool = True) -> Modifications:
    """Return what modifications ask for, without keeping anything of the mapping. Raises ScenarioInvalid naming every
    key that is wrong; so are the provenance keys where they have no meaning."""
    if not isinstance(given, Mapping):
        raise ScenarioInvalid(reason="modifications: expected a mapping")
    fields: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    nested: list[tuple[tuple[str, ...], Any]] = []
    told: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        if key == _PARAMETERS and isinstance(value, Mapping):
            merged = storable(value)
        elif key == _PARAMETERS:
            problems.append("specific_params: expected a mapping")
        elif isinstance(key, str) and key.startswith(f"{_PARAMETERS}.") and all(key.split(".")):
            nested.append((tuple(key.split(".")[1:]), storable(value)))
        elif key in CONTENT_FIELDS:
            fields[key] = copy.deepcopy(value)
        elif provenance and key in (WEAK_SPOT, FOCUS_FEATURE, FOCUS_VALUE):
            told[key] = storable(value)
        else:
            problems.append(f"{str(key)[:100]}: not a field that can be changed")
    problems += _wrong_provenance(told)
    if problems:
        raise ScenarioInvalid(reason="; ".join(problems[:_SHOWN]))
    return Modifications(_with_text(fields), merged, tuple(nested), told)


def _wrong_provenance(told: Mapping[str, Any]) -> Iterator[str]:
    for key in (WEAK_SPOT, FOCUS_FEATURE):
        value = told.get(key)
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= 500):
            yield f"{key}: expected text of 1 to 500 characters"


def _with_text(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with new parameters as text, which is what a definition keeps."""
    if "specific_params_json" not in fields:
        return fields
    probe = {"scenario_definition_id": "-", "name": "-", "specific_params_json": fields["specific_params_json"]}
    return {**fields, "specific_params_json": ScenarioDefinition.read(probe).specific_params_json}


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        current = result.get(key)
        recurse = isinstance(value, Mapping) and isinstance(current, dict)
        result[key] = _merged(current, value) if recurse else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def _set(parameters: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    holder: Any = parameters
    for position, part in enumerate(path[:-1]):
        holder = holder.setdefault(part, {})
        if not isinstance(holder, dict):
            where = ".".join((_PARAMETERS, *path[: position + 1]))
            raise ScenarioInvalid(reason=f"{where}: has no parts that can be set, set it as a whole")
    holder[path[-1]] = copy.deepcopy(value)


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"
