"""Families of fire and what comes before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from uqueue_worker.learning.scenarios.family import FamilyScenario, rise_and_fall
from uqueue_worker.learning.scenarios.parameters import (
    FamilyParameters,
    Fraction,
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

SmallRate = Annotated[Number, Field(ge=0, le=1), Usual(0, 0.002)]
LargeRate = Annotated[Number, Field(ge=0, le=10), Usual(0, 0.02)]
SmallRates = Annotated[dict[Substance, SmallRate], Field(min_length=1, max_length=40)]
LargeRates = Annotated[dict[Substance, LargeRate], Field(min_length=1, max_length=40)]
Heat = Annotated[HeatWatts, Usual(0, 10_000)]
PeakFactor = Annotated[Number, Field(gt=0, lt=1), Usual(0.1, 0.9)]


class PyrolysisParameters(FamilyParameters):
    ordered = (("initial_intensity", "peak_intensity"),)

    location: Location = (0.0, 0.0, 0.5)
    base_emission_rates_g_s: SmallRates = Field(default_factory=lambda: {"CO": 0.001, "CH2O": 0.0005})
    initial_intensity: Fraction = 0.1
    peak_intensity: Annotated[Number, Field(ge=0, le=5), Usual(0.3, 1)] = 1.0
    peak_time_factor: PeakFactor = 0.6


class LigninParameters(PyrolysisParameters):
    base_emission_rates_g_s: SmallRates = Field(default_factory=lambda: {"Phenol": 0.0008, "Guaiacol": 0.0006})
    peak_time_factor: PeakFactor = 0.7


class CombustionParameters(FamilyParameters):
    ordered = (("initial_heat_w", "max_heat_w"),)

    location: Location = (0.0, 0.0, 0.5)
    initial_heat_w: Heat = 500.0
    max_heat_w: Heat = 5000.0
    chemical_emission_rates_g_s: LargeRates = Field(default_factory=lambda: {"CO": 0.01, "PM2.5": 0.005})


class SourceTiming(Parameters):
    """When a source of a combination begins, how long it lasts and where in that time it is strongest, each as a share
    of the duration (of its own time, for the peak)."""

    location: Location = (0.0, 0.0, 0.5)
    start_delay_factor: Annotated[Number, Field(ge=0, lt=1), Usual(0, 0.9)] = 0.0
    duration_factor: Annotated[Number, Field(gt=0, le=1), Usual(0.1, 1)] = 1.0
    peak_time_factor: PeakFactor = 0.5

    def progress(self, of_scenario: float) -> float | None:
        """Return how much of the source's own time has passed, None before and after it."""
        own = (of_scenario - self.start_delay_factor) / self.duration_factor
        return own if 0 <= own <= 1 else None


class HeatSource(SourceTiming):
    ordered = (("start_heat_w", "max_heat_w"),)

    start_heat_w: Heat = 100.0
    max_heat_w: Heat = 1000.0


class ChemicalSource(SourceTiming):
    emission_rates_g_s: SmallRates = Field(default_factory=lambda: {"CO": 0.001})


class ComboParameters(FamilyParameters):
    heat_source: HeatSource | None = None
    chemical_source: ChemicalSource | None = None

    @model_validator(mode="after")
    def _some_source(self) -> Self:
        if self.heat_source is None and self.chemical_source is None:
            raise ValueError("heat_source, chemical_source or both are needed")
        return self


@register
class CellulosePyrolysis(FamilyScenario):
    """Wood or paper that smoulders."""

    family_category = "fire_precursor"
    event_type = "cellulose_pyrolysis"
    duration_seconds = 3600.0
    parameter_model = PyrolysisParameters

    def _severity(self) -> float:
        told: PyrolysisParameters = self.parameters
        return rise_and_fall(self.progress, told.initial_intensity, told.peak_intensity, told.peak_time_factor)

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: PyrolysisParameters = self.parameters
        strength = self._severity()
        emissions = {name: rate * strength for name, rate in told.base_emission_rates_g_s.items()}
        orchestrator.place("pyrolysis", Source(told.location, emissions_g_s=emissions))


@register
class LigninDecomposition(CellulosePyrolysis):
    """Lignin that decomposes: phenols and guaiacol."""

    event_type = "lignin_decomposition"
    duration_seconds = 2700.0
    parameter_model = LigninParameters


@register
class EarlyCombustion(FamilyScenario):
    """A small flame that grows."""

    family_category = "fire_event"
    event_type = "early_combustion"
    duration_seconds = 1800.0
    parameter_model = CombustionParameters

    def _severity(self) -> float:
        return self.progress

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: CombustionParameters = self.parameters
        heat = told.initial_heat_w + (told.max_heat_w - told.initial_heat_w) * self.progress
        share = heat / told.max_heat_w if told.max_heat_w else 1.0
        emissions = {name: rate * share for name, rate in told.chemical_emission_rates_g_s.items()}
        orchestrator.place("flame", Source(told.location, heat_w=heat, emissions_g_s=emissions))


@register
class FirePrecursorCombo(FamilyScenario):
    """Heat, chemicals or both, each in its own time."""

    family_category = "fire_precursor_complex"
    event_type = "multi_fire_precursor"
    duration_seconds = 3600.0
    parameter_model = ComboParameters

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: ComboParameters = self.parameters
        if (heat := told.heat_source) is not None:
            watts = self._strength(heat, heat.start_heat_w, heat.max_heat_w)
            orchestrator.place("heat", Source(heat.location, heat_w=watts))
        if (chemical := told.chemical_source) is not None:
            strength = self._strength(chemical, 0.0, 1.0)
            emissions = {name: rate * strength for name, rate in chemical.emission_rates_g_s.items()}
            orchestrator.place("chemical", Source(chemical.location, emissions_g_s=emissions))

    def _severity(self) -> float:
        told: ComboParameters = self.parameters
        sources = [source for source in (told.heat_source, told.chemical_source) if source is not None]
        return max(self._strength(source, 0.0, 1.0) for source in sources)

    def _strength(self, source: SourceTiming, start: float, peak: float) -> float:
        own = source.progress(self.progress)
        return 0.0 if own is None else rise_and_fall(own, start, peak, source.peak_time_factor)
