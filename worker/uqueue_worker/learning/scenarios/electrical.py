"""Families of electrical and thermal faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from uqueue_worker.learning.scenarios.family import FamilyScenario
from uqueue_worker.learning.scenarios.parameters import (
    FamilyParameters,
    HeatWatts,
    Location,
    Number,
    Parameters,
    Substance,
    Usual,
)
from uqueue_worker.learning.scenarios.registry import register
from uqueue_worker.learning.simulator.source import Source

if TYPE_CHECKING:
    from uqueue_worker.learning.simulator.orchestrator import EnvironmentOrchestrator

Field_V_M = Annotated[Number, Field(ge=0, le=1e5)]
Decibels = Annotated[Number, Field(ge=0, le=160), Usual(20, 110)]
Rate = Annotated[Number, Field(ge=0, le=1), Usual(0, 0.001)]
GasRate = Annotated[Number, Field(ge=0, le=0.1), Usual(0, 0.0005)]
_LOUD_DB = 100.0


class CoronaParameters(FamilyParameters):
    location: Location = (0.0, 0.0, 0.5)
    emf_strength_v_m: Annotated[Field_V_M, Usual(0, 200)] = 50.0
    acoustic_level_db: Decibels = 40.0
    ozone_emission_g_s: GasRate = 1e-4
    nox_emission_g_s: GasRate = 5e-5


class ArcingParameters(FamilyParameters):
    ordered = (("min_fluctuation_factor", "max_fluctuation_factor"),)

    location: Location = (0.0, 0.0, 0.5)
    base_intensity_emf_v_m: Annotated[Field_V_M, Usual(0, 2000)] = 1000.0
    emf_frequency_hz: Annotated[Number, Field(gt=0, le=1e6), Usual(50, 60)] = 60.0
    base_intensity_acoustic_db: Decibels = 90.0
    base_intensity_thermal_w: Annotated[HeatWatts, Usual(0, 10_000)] = 5000.0
    min_fluctuation_factor: Annotated[Number, Field(ge=0, le=5), Usual(0.5, 1)] = 0.8
    max_fluctuation_factor: Annotated[Number, Field(ge=0, le=5), Usual(1, 1.5)] = 1.2


class StageSignature(Parameters):
    """What a stage of the breakdown gives off."""

    emf_v_m: Annotated[Field_V_M, Usual(0, 500)] = 0.0
    acoustic_db: Decibels = 0.0
    thermal_w: Annotated[HeatWatts, Usual(0, 2000)] = 0.0
    voc_g_s: Rate = 0.0


_STAGES = (
    StageSignature(emf_v_m=5.0, acoustic_db=25.0, thermal_w=10.0, voc_g_s=1e-5),
    StageSignature(emf_v_m=40.0, acoustic_db=40.0, thermal_w=100.0, voc_g_s=1e-4),
    StageSignature(emf_v_m=250.0, acoustic_db=65.0, thermal_w=1000.0, voc_g_s=5e-4),
)
StageSeconds = Annotated[Number, Field(gt=0, le=864_000), Usual(60, 7200)]


class InsulationParameters(FamilyParameters):
    location: Location = (0.0, 0.0, 0.5)
    stage_durations_s: Annotated[tuple[StageSeconds, ...], Field(min_length=1, max_length=20)] = (3600.0, 3000.0, 600.0)
    stage_signatures: Annotated[tuple[StageSignature, ...], Field(min_length=1, max_length=20)] = _STAGES

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.stage_durations_s) != len(self.stage_signatures):
            raise ValueError("stage_durations_s and stage_signatures must have one entry for each stage")
        return self


class OverheatParameters(FamilyParameters):
    ordered = (("start_heat_w", "max_heat_w"),)

    location: Location = (0.0, 0.0, 0.5)
    start_heat_w: Annotated[HeatWatts, Usual(0, 2000)] = 100.0
    max_heat_w: Annotated[HeatWatts, Usual(0, 2000)] = 1000.0
    offgas_profile_g_s: Annotated[dict[Substance, Rate], Field(max_length=40)] = Field(default_factory=dict)
    offgas_start_time_s: Annotated[Number, Field(ge=0, le=864_000), Usual(0, 3600)] = 0.0


@register
class CoronaDischarge(FamilyScenario):
    """A discharge into air: a weak field and sound, ozone and nitrogen oxides. Humid air hides its ozone."""

    family_category = "electrical_fault"
    event_type = "corona_discharge"
    duration_seconds = 1200.0
    parameter_model = CoronaParameters

    def _severity(self) -> float:
        severity: float = self.parameters.emf_strength_v_m / 200.0
        return severity

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: CoronaParameters = self.parameters
        gases = {"Ozone": told.ozone_emission_g_s, "NOx": told.nox_emission_g_s}
        source = Source(
            told.location, emissions_g_s=gases, emf_v_m=told.emf_strength_v_m, acoustic_db=told.acoustic_level_db
        )
        orchestrator.place("corona", source)


@register
class ArcingEvent(FamilyScenario):
    """An arc: a strong field, a loud noise and heat that flicker."""

    family_category = "electrical_fault_critical"
    event_type = "arcing_event"
    duration_seconds = 60.0
    parameter_model = ArcingParameters

    def _severity(self) -> float:
        severity: float = self.parameters.base_intensity_acoustic_db / _LOUD_DB
        return severity

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: ArcingParameters = self.parameters
        flicker = orchestrator.random.uniform(told.min_fluctuation_factor, told.max_fluctuation_factor)
        source = Source(
            told.location,
            heat_w=told.base_intensity_thermal_w * flicker,
            emf_v_m=told.base_intensity_emf_v_m * flicker,
            emf_frequency_hz=told.emf_frequency_hz,
            acoustic_db=told.base_intensity_acoustic_db * min(flicker, 2.0) ** 0.25,
        )
        orchestrator.place("arc", source)


@register
class InsulationBreakdown(FamilyScenario):
    """Insulation that fails by stages. The stages say the duration."""

    family_category = "electrical_fault_progressive"
    event_type = "insulation_breakdown"
    duration_seconds = 7200.0
    parameter_model = InsulationParameters

    @property
    def stage(self) -> int:
        """The number of the stage that holds now, from 0."""
        ends, passed = 0.0, self.parameters.stage_durations_s
        for number, seconds in enumerate(passed):
            ends += seconds
            if self.current_time_seconds < ends:
                return number
        return len(passed) - 1

    def _duration(self, given: float | None) -> float:
        return float(sum(self.parameters.stage_durations_s))

    def _subtype(self) -> str | None:
        return f"stage_{self.stage + 1}"

    def _severity(self) -> float:
        return (self.stage + 1) / len(self.parameters.stage_durations_s)

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: InsulationParameters = self.parameters
        signs = told.stage_signatures[self.stage]
        source = Source(
            told.location,
            heat_w=signs.thermal_w,
            emissions_g_s={"VOC": signs.voc_g_s},
            emf_v_m=signs.emf_v_m,
            acoustic_db=signs.acoustic_db,
        )
        orchestrator.place("insulation", source)


@register
class EquipmentOverheat(FamilyScenario):
    """Equipment that grows hot and from some time on gives off gas."""

    family_category = "electrical_thermal_fault"
    event_type = "equipment_overheat"
    duration_seconds = 3600.0
    parameter_model = OverheatParameters

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: OverheatParameters = self.parameters
        heat = told.start_heat_w + (told.max_heat_w - told.start_heat_w) * self.progress
        gassing = self.current_time_seconds >= told.offgas_start_time_s
        orchestrator.place(
            "equipment", Source(told.location, heat_w=heat, emissions_g_s=told.offgas_profile_g_s if gassing else {})
        )
