"""Families in which nothing is wrong: the weather, the seasons and ordinary operation."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from uqueue_worker.learning.errors import ScenarioParameterError
from uqueue_worker.learning.scenarios.family import FamilyScenario, rise_and_fall
from uqueue_worker.learning.scenarios.parameters import FamilyParameters, Fixed, Number, Percent, Usual
from uqueue_worker.learning.scenarios.registry import register

if TYPE_CHECKING:
    from uqueue_worker.learning.simulator.orchestrator import EnvironmentOrchestrator

Celsius = Annotated[Number, Field(ge=-50, le=60), Usual(-5, 38)]
Wind = Annotated[Number, Field(ge=0, le=60), Usual(0, 12)]
Solar = Annotated[Number, Field(ge=0, le=1400)]
PhaseHours = Annotated[Number, Field(ge=-24, le=24)]
Hours = Annotated[Number, Field(gt=0, le=240), Usual(0.25, 12)]
Rate = Annotated[Number, Field(ge=0, le=300), Usual(0, 60)]
FreeText = Annotated[str, Field(max_length=100)]
_DAY_SECONDS = 86_400.0
_SEASONAL_SWING_CELSIUS = 4.0
_RAIN_MM_HR = {"light": 2.0, "moderate": 8.0, "heavy": 25.0, "torrential": 60.0}
_DRIZZLE_MM_HR = {"none": 0.0, "drizzle": 0.4, "light_rain": 2.0}


class DiurnalParameters(FamilyParameters):
    ordered = (
        ("min_temp_celsius", "max_temp_celsius"),
        ("min_humidity_percent", "max_humidity_percent"),
    )

    min_temp_celsius: Celsius = 10.0
    max_temp_celsius: Celsius = 25.0
    temp_phase_offset_hours: PhaseHours = -2.0
    max_solar_intensity_w_m2: Solar = 1000.0
    solar_phase_offset_hours: PhaseHours = 0.0
    min_humidity_percent: Percent = 40.0
    max_humidity_percent: Percent = 80.0
    humidity_phase_offset_hours: PhaseHours = 10.0


class SeasonalParameters(FamilyParameters):
    start_avg_temp_c: Celsius = 10.0
    end_avg_temp_c: Celsius = 20.0
    start_avg_humidity_percent: Percent = 60.0
    end_avg_humidity_percent: Percent = 60.0
    season_name: Annotated[FreeText, Fixed()] = ""


class RainParameters(FamilyParameters):
    """Rain; without a rate, its intensity gives one."""

    weather_event_type: Annotated[Literal["rain_storm"], Fixed()] = "rain_storm"
    intensity: Literal["light", "moderate", "heavy", "torrential"] = "moderate"
    duration_hours: Hours = 1.0
    precipitation_rate_mm_hr: Rate | None = None

    @property
    def total_hours(self) -> float:
        return self.duration_hours


class WindParameters(FamilyParameters):
    weather_event_type: Annotated[Literal["high_wind"], Fixed()] = "high_wind"
    max_wind_speed_mps: Annotated[Number, Field(ge=0, le=60), Usual(8, 25)] = 15.0
    dominant_direction_degrees: Annotated[Number, Field(ge=0, le=360)] = 270.0
    gust_speed_mps: Annotated[Number, Field(ge=0, le=80), Usual(10, 35)] = 20.0
    duration_hours: Hours = 2.0

    @property
    def total_hours(self) -> float:
        return self.duration_hours


class TemperatureParameters(FamilyParameters):
    """A heatwave or a cold snap; the sign of the peak belongs to it."""

    weather_event_type: Annotated[Literal["temperature_event"], Fixed()] = "temperature_event"
    event_type: Annotated[Literal["heatwave", "cold_snap"], Fixed()] = "heatwave"
    temperature_peak_delta_c: Annotated[Number, Field(ge=-40, le=40), Usual(-20, 20)] = 10.0
    ramp_hours: Hours = 6.0
    peak_hours: Hours = 12.0
    return_hours: Hours = 6.0

    @model_validator(mode="before")
    @classmethod
    def _matching_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("event_type") == "cold_snap":
            return {"temperature_peak_delta_c": -10.0, **values}
        return values

    @model_validator(mode="after")
    def _matching_sign(self) -> Self:
        if self.temperature_peak_delta_c * (1 if self.event_type == "heatwave" else -1) <= 0:
            sign = "above" if self.event_type == "heatwave" else "below"
            raise ValueError(f"temperature_peak_delta_c must be {sign} 0 for a {self.event_type}")
        return self

    @classmethod
    def settle(cls, values: dict[str, Any], fixed: Collection[str]) -> None:
        if "temperature_peak_delta_c" in fixed:
            return
        sign = 1.0 if values["event_type"] == "heatwave" else -1.0
        values["temperature_peak_delta_c"] = sign * max(0.1, sign * values["temperature_peak_delta_c"])

    @property
    def total_hours(self) -> float:
        return self.ramp_hours + self.peak_hours + self.return_hours


class BaselineParameters(FamilyParameters):
    target_temperature_celsius: Celsius = 20.0
    target_relative_humidity_percent: Percent = 50.0
    target_solar_intensity_w_m2: Solar = 100.0
    wind_speed_mps: Wind = 0.0
    precipitation_type: Literal["none", "drizzle", "light_rain"] = "none"
    equipment_states: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=100)], bool | float | FreeText],
        Field(max_length=100),
        Fixed(),
    ] = Field(default_factory=dict)


@register
class DiurnalCycle(FamilyScenario):
    """A day: temperature, sun and humidity come and go."""

    family_category = "normal_operation_environmental"
    event_type = "normal_diurnal_cycle"
    duration_seconds = 86_400.0
    parameter_model = DiurnalParameters
    is_anomaly = False

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: DiurnalParameters = self.parameters
        temperature = _swing(told.min_temp_celsius, told.max_temp_celsius, self._day(told.temp_phase_offset_hours))
        humidity = self._day(told.humidity_phase_offset_hours)
        orchestrator.adjust(
            air_temperature_celsius=temperature,
            relative_humidity_percent=_swing(told.min_humidity_percent, told.max_humidity_percent, humidity),
            solar_intensity_w_m2=told.max_solar_intensity_w_m2 * max(0.0, self._day(told.solar_phase_offset_hours)),
        )

    def _day(self, offset_hours: float) -> float:
        """Return -1 at midnight and 1 at noon, moved by the offset; a positive one comes earlier."""
        return -math.cos(2 * math.pi * (self.current_time_seconds / _DAY_SECONDS + offset_hours / 24))


@register
class SeasonalVariation(FamilyScenario):
    """Three months: averages drift, and days go on within them."""

    family_category = "normal_operation_long_term"
    event_type = "normal_seasonal_variation"
    duration_seconds = 7_776_000.0
    parameter_model = SeasonalParameters
    is_anomaly = False

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: SeasonalParameters = self.parameters
        day = -math.cos(2 * math.pi * self.current_time_seconds / _DAY_SECONDS)
        average = told.start_avg_temp_c + (told.end_avg_temp_c - told.start_avg_temp_c) * self.progress
        drift = told.end_avg_humidity_percent - told.start_avg_humidity_percent
        orchestrator.adjust(
            air_temperature_celsius=average + _SEASONAL_SWING_CELSIUS * day,
            relative_humidity_percent=told.start_avg_humidity_percent + drift * self.progress,
            solar_intensity_w_m2=600.0 * max(0.0, day),
        )

    def _subtype(self) -> str | None:
        return self.parameters.season_name or None


@register
class WeatherEvent(FamilyScenario):
    """Rain, high wind, or a heatwave or cold snap. `weather_event_type` says which, and the parameters belong to it;
    they say the duration, too."""

    family_category = "normal_operation_weather"
    event_type = "normal_weather_event"
    duration_seconds = 3600.0
    is_anomaly = False
    models: ClassVar[dict[str, type[RainParameters | WindParameters | TemperatureParameters]]] = {
        "rain_storm": RainParameters,
        "high_wind": WindParameters,
        "temperature_event": TemperatureParameters,
    }

    @classmethod
    def read_parameters(cls, values: Mapping[str, Any]) -> FamilyParameters:
        kind = values.get("weather_event_type", "rain_storm")
        if not isinstance(kind, str) or kind not in cls.models:
            raise ScenarioParameterError(
                family=cls.__name__, reason=f"weather_event_type: expected one of {', '.join(cls.models)}"
            )
        return cls.models[kind].read(cls.__name__, values)

    def _duration(self, given: float | None) -> float:
        hours: float = self.parameters.total_hours
        return hours * 3600.0

    def _subtype(self) -> str | None:
        told = self.parameters
        return told.event_type if isinstance(told, TemperatureParameters) else told.weather_event_type

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told = self.parameters
        swell = math.sin(math.pi * self.progress)
        if isinstance(told, RainParameters):
            rate = told.precipitation_rate_mm_hr
            rate = _RAIN_MM_HR[told.intensity] if rate is None else rate
            humidity = orchestrator.surroundings.relative_humidity_percent
            orchestrator.adjust(
                precipitation_mm_hr=rate * swell, relative_humidity_percent=humidity + (97.0 - humidity) * swell
            )
        elif isinstance(told, WindParameters):
            gust = max(0.0, told.gust_speed_mps - told.max_wind_speed_mps) * orchestrator.random.random() ** 4
            orchestrator.adjust(
                wind_speed_mps=(told.max_wind_speed_mps + gust) * swell,
                wind_direction_degrees=told.dominant_direction_degrees,
            )
        else:
            base = orchestrator.surroundings.air_temperature_celsius
            orchestrator.adjust(air_temperature_celsius=base + told.temperature_peak_delta_c * self._reached(told))

    def _reached(self, told: TemperatureParameters) -> float:
        """Return the share of the peak that is reached now."""
        hours = self.current_time_seconds / 3600.0
        if hours < told.ramp_hours:
            return hours / told.ramp_hours
        return min(1.0, max(0.0, told.total_hours - hours) / told.return_hours)


@register
class BaselineOperation(FamilyScenario):
    """An ordinary shift; equipment that is on (true, "on", "running" or a load up to 1) adds to the machinery."""

    family_category = "normal_operation_baseline"
    event_type = "normal_baseline_operation"
    duration_seconds = 28_800.0
    parameter_model = BaselineParameters
    is_anomaly = False

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        told: BaselineParameters = self.parameters
        settled = rise_and_fall(min(self.progress * 10, 1.0), 0.0, 1.0, 1.0)  # the first tenth leads to the targets
        usual = orchestrator.surroundings
        temperature, humidity = usual.air_temperature_celsius, usual.relative_humidity_percent
        orchestrator.adjust(
            air_temperature_celsius=temperature + (told.target_temperature_celsius - temperature) * settled,
            relative_humidity_percent=humidity + (told.target_relative_humidity_percent - humidity) * settled,
            solar_intensity_w_m2=told.target_solar_intensity_w_m2,
            wind_speed_mps=told.wind_speed_mps,
            precipitation_mm_hr=_DRIZZLE_MM_HR[told.precipitation_type],
            machinery=min(1.0, usual.machinery + 0.1 * sum(map(_load, told.equipment_states.values()))),
        )


def _swing(low: float, high: float, phase: float) -> float:
    return low + (high - low) * (1 + phase) / 2


def _load(state: bool | float | str) -> float:
    if isinstance(state, str):
        return 1.0 if state.lower() in ("on", "running") else 0.0
    return min(max(float(state), 0.0), 1.0)
