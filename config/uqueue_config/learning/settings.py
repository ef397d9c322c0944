"""Settings of active learning, from environment variables `UQUEUE_LEARNING_*`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from uqueue_config.learning.values import Score
from uqueue_config.settings import LEARNING_PREFIX as PREFIX
from uqueue_config.variables import read_variables

StrategyName = Literal["region", "real_time", "high_fidelity", "heterogeneous"]
Tls = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
TICK_SECONDS = 30.0
#: Which there are, and which were registered besides, only the learning worker knows.
CrafterName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,99}$")]


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("expected each name once")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("expected an absolute path")
    return value


class RunDefaults(BaseModel):
    """What a run of active learning can be told, with the defaults."""

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
    crafter_order: Annotated[tuple[CrafterName, ...], BeforeValidator(_words), AfterValidator(_each_once)] = Field(
        ("template", "rule", "optimise", "explore"), min_length=1, description="Order in which crafters are tried."
    )


class LearningSettings(RunDefaults):
    """How a run of active learning goes, unless its own configuration says otherwise."""

    database: SecretStr | None = Field(
        None, description="PostgreSQL of scenarios and runs, postgresql://user:password@host:5432/name."
    )
    database_file: Path | None = Field(None, description="File that holds it instead; it is read at each connect.")
    database_tls: Tls = Field("prefer", description="libpq's sslmode; use verify-full over networks.")
    subject: str = Field(
        "uqueue_worker.learning.demo.subject:fire_precursors",
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="What a learning worker learns about: module:function of a `Subject` (docs/learning/runs.md).",
    )
    data_dir: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None, description="Folder of the runs' files, which all learning workers share."
    )
    models_dir: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="Folder of the classifiers' versions, which the service's workers serve; `models` in "
        "UQUEUE_LEARNING_DATA_DIR unless set.",
    )
    evaluate: Literal["queue", "local"] = Field(
        "queue", description="Who evaluates models: the service's workers, or the learning workers themselves."
    )
    tick_seconds: float | None = Field(
        None,
        ge=0.1,
        description="How often beat has a learning worker look for runs that stand still; every 30 s where a database "
        "is named, else only if set.",
    )
    stale_seconds: float = Field(
        60.0, ge=0.1, description="A step or part that nobody has gone on with for so long is sent again."
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Where a learning worker shows its metrics, alm_*; nowhere unless set."
    )
    metrics_address: str = Field("127.0.0.1", description="Address that this port belongs to.")
    step_seconds: float = Field(300.0, ge=2, le=80_000, description="A step that takes longer is ended.")
    simulate_seconds: float = Field(
        900.0, ge=2, le=80_000, description="A part that draws, crafts or simulates likewise."
    )
    train_seconds: float = Field(7200.0, ge=2, le=80_000, description="A training likewise.")

    @property
    def tick(self) -> float | None:
        """Seconds between two ticks of beat, None for none."""
        if self.tick_seconds is None and (self.database is not None or self.database_file is not None):
            return TICK_SECONDS
        return self.tick_seconds

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read `UQUEUE_LEARNING_*` from the environment or the mapping given; `overrides` win.

        Raises SettingsError naming every unknown and every wrong variable.
        """
        environ = os.environ if environ is None else environ
        given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
        return read_variables(cls, PREFIX, given, overrides)
