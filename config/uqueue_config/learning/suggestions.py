"""Suggestions: what to do about a weak spot, for people or for the crafters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter

from uqueue_config.learning.record import Record
from uqueue_config.learning.values import Identifier, JsonValue, Score

State = Literal["proposed", "approved", "rejected", "applied"]
UNRESOLVED = "heuristic_map("
_NEXT: dict[State, tuple[State, ...]] = {"proposed": ("approved", "rejected"), "approved": ("applied",)}


class ParameterModification(Record):
    """Vary a scenario parameter around a value; `param_path` reads `heuristic_map(<feature path>)` where no rule
    says which parameter it is, and a person must replace it before the suggestion is applied. `feature_path` is the
    feature where a person did."""

    param_path: Identifier
    operation: Literal["vary_around_value"] = "vary_around_value"
    value: JsonValue
    comment: str = ""
    feature_path: str | None = None

    @property
    def needs_mapping(self) -> bool:
        return self.param_path.startswith(UNRESOLVED)

    @property
    def feature(self) -> str | None:
        """The feature that a person maps or has mapped to a parameter; None where a rule did."""
        if self.needs_mapping:
            return self.param_path.removeprefix(UNRESOLVED).removesuffix(")")
        return self.feature_path

    def mapped_to(self, param_path: str) -> Self:
        """Return the modification of another parameter."""
        return self.model_validate({**self, "param_path": param_path, "feature_path": self.feature})


class TagUpdate(Record):
    operation: Literal["add_if_not_exists"] = "add_if_not_exists"
    value: Identifier


class MetadataUpdates(Record):
    tags: TagUpdate


class ScenarioBasis(Record):
    """What a new scenario starts from."""

    scenario_definition_id_suggestion: Identifier
    name: Identifier
    description: str
    category: Literal["ACTIVE_LEARNING_TARGETED", "ACTIVE_LEARNING_CLASS_BOOST"]
    tags: tuple[Identifier, ...]
    specific_params_json_template: dict[str, JsonValue]
    author: str = "ActiveLearningManager"


class _Suggested(Record):
    suggestion_id: Annotated[str, Field(pattern=r"^sugg_[0-9a-f]{12}$")]
    reason: str
    priority: Score
    suggestion_confidence: Score
    originating_weak_spot_ids: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    original_weak_spot_info: dict[str, JsonValue]
    state: State = "proposed"

    def moved_to(self, state: State) -> Self:
        """Return the suggestion in another state: proposed, then approved or rejected; approved, then applied.

        Raises ValueError for any other move, and for applying what a person must map to a parameter first.
        """
        if state not in _NEXT.get(self.state, ()):
            raise ValueError(f"a suggestion that is {self.state} cannot become {state}")
        if state == "applied" and self.needs_mapping:
            raise ValueError("a modification names no parameter yet: replace heuristic_map(…) by a parameter's path")
        return self.model_copy(update={"state": state})

    @property
    def needs_mapping(self) -> bool:
        return False


class ModifyScenario(_Suggested):
    """Change the scenario that a weak sample came from."""

    kind: Literal["modify_existing_scenario"] = "modify_existing_scenario"
    target_scenario_definition_id: Identifier
    suggested_modifications_for_specific_params: Annotated[tuple[ParameterModification, ...], Field(max_length=2)] = ()
    suggested_metadata_updates: MetadataUpdates

    @property
    def needs_mapping(self) -> bool:
        return any(one.needs_mapping for one in self.suggested_modifications_for_specific_params)


class CreateScenario(_Suggested):
    """Make a scenario where there is none."""

    kind: Literal["create_new_scenario"] = "create_new_scenario"
    basis_for_new_scenario: ScenarioBasis


Suggestion = Annotated[ModifyScenario | CreateScenario, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[ModifyScenario | CreateScenario] = TypeAdapter(Suggestion)


def read_suggestion(message: dict[str, Any]) -> ModifyScenario | CreateScenario:
    """Return the suggestion that a message holds. Raises ValueError (pydantic's) naming every problem."""
    return _ADAPTER.validate_python(message)
