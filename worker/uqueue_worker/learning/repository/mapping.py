"""Which parameter moves a feature, where no rule knew it and a person says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.suggestions import ModifyScenario, ParameterModification
from uqueue_worker.learning.errors import MappingInvalid
from uqueue_worker.learning.repository.suggested import PREFIX, varying
from uqueue_worker.learning.scenarios import numeric_parameters

_SHOWN_CHARACTERS = 200
_SHOWN_NAMES = 3
_ALIKE = 0.3


def mapped(suggestion: ModifyScenario, mapping: Mapping[str, str], target: ScenarioDefinition) -> ModifyScenario:
    """Return a suggestion with other parameters in its modifications.

    mapping  from a modification's feature, or its `param_path` as it is, to the path of a number of the scenario's
             family that varies, with or without `specific_params.`
    target   the scenario that is to be modified
    Raises MappingInvalid naming everything that is wrong, and as `varying`.
    """
    family = varying(target)
    known = numeric_parameters(family.parameters)
    paths = {name: path.removeprefix(PREFIX) for name, path in mapping.items()}
    asked = suggestion.suggested_modifications_for_specific_params
    found = [_mapped(one, paths) for one in asked]
    problems = [
        *(_no_feature(name, asked) for name in paths if not any(name in _names(one) for one in asked)),
        *(_no_parameter(path, type(family).__name__, known) for path in paths.values() if path not in known),
        *_twice(found),
    ]
    if problems:
        raise MappingInvalid(suggestion_id=suggestion.suggestion_id, reason="; ".join(problems))
    changes = {"suggested_modifications_for_specific_params": tuple(found)}
    return ModifyScenario.model_validate({**suggestion, **changes})


def _names(one: ParameterModification) -> tuple[str, ...]:
    return (one.param_path,) if one.feature is None else (one.param_path, one.feature)


def _mapped(one: ParameterModification, paths: Mapping[str, str]) -> ParameterModification:
    wanted = next((paths[name] for name in _names(one) if name in paths), None)
    return one if wanted is None else one.mapped_to(wanted)


def _no_feature(name: str, asked: Sequence[ParameterModification]) -> str:
    there = ", ".join(one.feature or one.param_path for one in asked) or "nothing"
    return f"it modifies nothing for {name[:_SHOWN_CHARACTERS]!r}, but {there}"


def _no_parameter(path: str, family: str, known: Collection[str]) -> str:
    near = get_close_matches(path[:_SHOWN_CHARACTERS], known, _SHOWN_NAMES, _ALIKE) or sorted(known)[:_SHOWN_NAMES]
    return f"{family} has no number {path[:_SHOWN_CHARACTERS]!r} that varies; nearest are {', '.join(near)}"


def _twice(found: Sequence[ParameterModification]) -> Iterator[str]:
    counts = Counter(one.param_path.removeprefix(PREFIX) for one in found)
    yield from (f"two modifications would move {path}" for path, count in counts.items() if count > 1)
