"""Settings of active learning, from environment variables `UQUEUE_LEARNING_*`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from uqueue_config.learning.values import Score
from uqueue_config.settings import LEARNING_PREFIX as PREFIX
from uqueue_config.variables import read_variables

StrategyName = Literal["region", "real_time", "high_fidelity", "heterogeneous"]
CrafterName = Literal["template", "rule", "optimise", "explore"]


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


class LearningSettings(BaseModel):
    """How a run of active learning goes, unless its own configuration says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    max_cycles: int = Field(6, ge=1, description="Cycles after which a run ends.")
    sample_budget_per_cycle: int = Field(48, ge=1, description="Samples that one cycle may make, at most.")
    sample_budget_total: int | None = Field(None, ge=1, description="Samples that a run may make; no limit unless set.")
    exploration_fraction: Score = Field(0.15, description="Share of the samples drawn from the deployment ranges.")
    max_weak_spots: int = Field(12, ge=1, description="Weak spots that a cycle goes after, the best first.")
    min_priority: Score = Field(0.05, description="Priority below which weak spots are left alone.")
    samples_per_variation: int = Field(1, ge=1, description="Samples from each variation of a scenario.")
    jitter_sigma: Score = Field(0.05, description="Spread of a variation, as a share of each parameter's range.")
    seen_spot_decay: Score = Field(
        0.5, description="Factor on a region's priority for each cycle that went after it without improvement."
    )
    patience: int = Field(2, ge=1, description="Cycles without a gain of min_delta after which a run has converged.")
    min_delta: Score = Field(0.003, description="Gain in the target metric that counts as one.")
    target_metric: str = Field("macro_f1_score", min_length=1, description="Metric that says whether a run gets on.")
    target_value: float | None = Field(None, description="Value of it at which a run ends; none unless set.")
    regression_guard: Score = Field(0.01, description="Loss in the target metric above which no model is promoted.")
    auto_apply: bool = Field(True, description="Whether suggestions are applied without a person's approval.")
    random_seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of everything random in a run.")
    strategy: StrategyName = Field("region", description="How weak spots are found and ranked.")
    dataset_prefix: str = Field("alm_targeted", pattern=r"^[A-Za-z0-9_-]{1,100}$", description="Data sets' names.")
    crafter_order: Annotated[tuple[CrafterName, ...], BeforeValidator(_words)] = Field(
        ("template", "rule", "optimise", "explore"), min_length=1, description="Order in which crafters are tried."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read `UQUEUE_LEARNING_*` from the environment or the mapping given; `overrides` win.

        Raises SettingsError naming every unknown and every wrong variable.
        """
        environ = os.environ if environ is None else environ
        given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
        return read_variables(cls, PREFIX, given, overrides)
