"""A scenario of each family, none with the defaults only, and a generator with a small thermal camera."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uqueue_worker.learning.generator import MLDataGenerator
from uqueue_worker.learning.scenarios import REGISTRY, FamilyScenario
from uqueue_worker.learning.simulator import SensorUnit

PARAMETERS: dict[str, dict[str, Any]] = {
    "DiurnalCycle": {"min_temp_celsius": -3, "max_temp_celsius": 12.5},
    "SeasonalVariation": {"season_name": "spring", "end_avg_temp_c": 25.0},
    "WeatherEvent": {"weather_event_type": "temperature_event", "event_type": "cold_snap"},
    "BaselineOperation": {
        "precipitation_type": "drizzle",
        "equipment_states": {"pump": "on", "fan": 0.5, "hood": True},
    },
    "CellulosePyrolysis": {"location": [12.0, -3.0, 1.0], "base_emission_rates_g_s": {"CO": 0.002, "PM2.5": 0.0001}},
    "LigninDecomposition": {"peak_intensity": 0.8, "environment": {"wind_speed_mps": 7.0, "traffic": 0.9}},
    "EarlyCombustion": {"max_heat_w": 2500.0},
    "FirePrecursorCombo": {
        "heat_source": {"start_delay_factor": 0.2, "duration_factor": 0.5},
        "chemical_source": {"location": [3, 4, 0], "emission_rates_g_s": {"Phenol": 0.001}},
    },
    "CoronaDischarge": {"environment": {"relative_humidity_percent": 92.0}},
    "ArcingEvent": {"emf_frequency_hz": 50},
    "InsulationBreakdown": {
        "stage_durations_s": [120, 60],
        "stage_signatures": [{"emf_v_m": 5.0}, {"emf_v_m": 80.0, "thermal_w": 300.0}],
    },
    "EquipmentOverheat": {"offgas_profile_g_s": {"Phenol": 0.0002}, "offgas_start_time_s": 900},
}
CLOCK = datetime(2026, 3, 2, 9, 14, 7, 123000, tzinfo=UTC)


def a_scenario(family: str, scenario_id: str | None = None, **changes: Any) -> FamilyScenario:
    """Return a scenario of that family, of the same creation time whenever it is made."""
    made = REGISTRY.named(family)
    told = {"creation_timestamp_utc": CLOCK, "tags": ["made"], "author": "a test", **PARAMETERS[family], **changes}
    scenario = made(scenario_id or f"{family.lower()}-1", f"A {family}", "for tests", **told)
    assert isinstance(scenario, FamilyScenario)
    return scenario


def a_generator(folder: Path, **options: Any) -> MLDataGenerator:
    """Return a generator that writes into a folder and whose clock stands still."""
    unit = SensorUnit(image_pixels=(16, 12))
    return MLDataGenerator(grid_guardian=unit, default_output_dir=folder, clock=lambda: CLOCK, **options)


def raw_samples(folder: Path, count: int = 3) -> list[dict[str, Any]]:
    """Return raw samples of a corona and of a fire, `count` of each."""
    scenarios = [a_scenario("CoronaDischarge"), a_scenario("EarlyCombustion")]
    samples = a_generator(folder).generate_training_dataset(scenarios=scenarios, samples_per_scenario=count)
    assert isinstance(samples, list)
    return samples
