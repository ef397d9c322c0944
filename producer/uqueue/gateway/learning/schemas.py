"""Bodies of requests, and examples, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from uqueue_config.learning.requests import (
    MAX_SAMPLES,
    Cursor,
    Evaluate,
    Id,
    Limit,
    ParameterOfFeature,
    Text,
    Values,
    Version,
)

RUN_ID = "0f8c2b5e-6c1d-5a57-9f55-3c7f2f6f9a10"
SUGGESTION_ID = "sugg_3fa4c01b77d2"
SCENARIO_ID = "corona-humid-012"
FEATURE = "sensor_readings_map.readings.U30_BMI270.accel_z_g"


class RunRequest(BaseModel):
    """A run to be started. Values that are not given are the learning worker's own."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{}, {"configuration": {"max_cycles": 4, "sample_budget_per_cycle": 48}}]},
    )

    configuration: Values = Field(
        default_factory=dict,
        description="Values of the run's configuration by name, such as max_cycles, strategy or random_seed.",
    )


class MappingRequest(BaseModel):
    """Which parameter of its scenario moves a feature of a suggestion."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [{"mapping": {FEATURE: "environment.machinery"}}],
        },
    )

    mapping: ParameterOfFeature = Field(
        description="From the feature's path, or from param_path as it is, to the parameter's path."
    )


class EvaluationRequest(BaseModel):
    """One evaluation: of a data set that the learning worker can read, or of the samples given here."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"dataset": "pool.avro"}, {"dataset": "pool.avro", "model_version": "3"}]},
    )

    dataset: Text | None = Field(None, description="Path of an Avro file below a root of the learning worker.")
    samples: Annotated[list[Values], Field(min_length=1, max_length=MAX_SAMPLES)] | None = Field(
        None, description="Samples in the form of MLDataSample."
    )
    model_version: Id | None = Field(None, description="Version or alias; the one in service unless given.")

    def to_request(self) -> dict[str, Any]:
        """Return the arguments of the request for the worker."""
        return {name: getattr(self, name) for name in Evaluate.model_fields if name != "kind"}


class FieldRequest(BaseModel):
    """Labelled samples from the field: of a data set that the learning worker can read, or those given here."""

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, json_schema_extra={"examples": [{"dataset": "field.avro"}]}
    )

    dataset: Text | None = Field(None, description="Path of an Avro file below a root of the learning worker.")
    samples: Annotated[list[Values], Field(min_length=1, max_length=MAX_SAMPLES)] | None = Field(
        None, description="Samples in the form of MLDataSample, with labels."
    )


class SearchRequest(BaseModel):
    """What to look for; all scenarios unless something is given."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"query": "corona humid", "filters": {"category": "fire_event"}}]},
    )

    query: Text | None = Field(None, description="Words in name, tags, category or description.")
    filters: Values = Field(
        default_factory=dict, description="Filters of the repository, see docs/learning/scenarios.md."
    )
    limit: Limit = 50
    cursor: Cursor | None = None


class RestoreRequest(BaseModel):
    """The version to go back to."""

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, json_schema_extra={"examples": [{"version": 2}]}
    )

    version: Version
