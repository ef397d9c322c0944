"""The sensor unit: what its sensors read of a state of the environment.

Gas, particle, field and sound sensors and the thermal camera give records (`uqueue_worker.learning.avro`); all other
sensors give scalars, which travel in the metadata of a sample as `<sensor id>__<quantity>_<unit>`. Values are float32,
so that a sample in memory and the same sample read back from a file are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from uqueue_worker.learning.sensors import THERMAL_PIXELS, sensor_types
from uqueue_worker.learning.simulator import physics
from uqueue_worker.learning.simulator.orchestrator import EnvironmentState

Reading = dict[str, Any]
_NOISE = {"VOCSensorArray": 0.12, "ParticulateMatterSensor": 0.12, "EMFSensor": 0.08}
_SOUND_NOISE_DB = 1.0
_IMAGE_NOISE_CELSIUS = 0.05
_LIGHTNING_KILOMETRES = 40.0
_FIELD_OF_VIEW = (57.0, 71.0)
_BLOB_PIXELS = 6.0  # radius of a hot spot at one metre
_HOTTEST_CELSIUS = 900.0
_CHANNELS = {
    "1_formaldehyde": ("CH2O", "Formaldehyde"),
    "2_acetaldehyde": ("Acetaldehyde",),
    "3_acrolein": ("Acrolein",),
    "4_phenol": ("Phenol",),
    "5_cresol": ("Cresol",),
    "6_guaiacol": ("Guaiacol",),
}
_PARTICLES = ("PM2.5", "PM10")
_PARTICLES_PER_MICROGRAM = {"0_5": 6.5, "1_0": 7.6, "2_5": 8.0, "4_0": 8.05, "10_0": 8.06}


class Imperfections(BaseModel):
    """How far the sensors are from ideal.

    noise_scale          factor on all noise; 0 gives what the environment holds, seen through the cross-sensitivities
    dropout_probability  of each sensor at each look: its reading is null
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise_scale: Annotated[float, Field(ge=0, le=10)] = 1.0
    dropout_probability: Annotated[float, Field(ge=0, le=1)] = 0.0


class SensorUnit:
    """Twelve sensors, or those of a map from id to type; sensors of unknown types read nothing.

    `image_pixels` is (width, height) of the thermal camera.
    """

    def __init__(
        self,
        sensor_id_to_type_map: Mapping[str, str] | None = None,
        image_pixels: tuple[int, int] = THERMAL_PIXELS,
        imperfections: Imperfections | None = None,
        seed: int = 0,
    ) -> None:
        self.sensor_id_to_type_map = sensor_types(sensor_id_to_type_map)
        self.image_pixels = image_pixels
        self.imperfections = imperfections or Imperfections()
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Begin the random stream of that seed."""
        self._random = np.random.Generator(np.random.PCG64(seed))

    def read(
        self, state: EnvironmentState, moment: datetime, imperfections: Imperfections | None = None
    ) -> tuple[dict[str, Reading | None], dict[str, float]]:
        """Return the records by sensor id (None where a sensor gave nothing) and the scalars by their metadata key.

        `moment` is the sensors' own time. `imperfections` replace the unit's for this look.
        """
        look = _Look(state, moment, imperfections or self.imperfections, self._random, self.image_pixels)
        records: dict[str, Reading | None] = {}
        scalars: dict[str, float] = {}
        for sensor, kind in self.sensor_id_to_type_map.items():
            silent = self._random.random() < look.imperfections.dropout_probability
            if kind in _RECORDS:
                records[sensor] = None if silent else {**look.base(sensor, kind), **_RECORDS[kind](look)}
            elif kind in _SCALARS and not silent:
                scalars |= {f"{sensor}__{name}": _float32(value) for name, value in _SCALARS[kind](look).items()}
        return records, scalars


class _Look:
    """One look of all sensors at one state."""

    def __init__(
        self,
        state: EnvironmentState,
        moment: datetime,
        imperfections: Imperfections,
        random: np.random.Generator,
        image_pixels: tuple[int, int],
    ) -> None:
        self.state = state
        self.moment = moment
        self.imperfections = imperfections
        self.random = random
        self.image_pixels = image_pixels

    def base(self, sensor: str, kind: str) -> Reading:
        told = {"sensor_id": sensor, "sensor_type_general": kind, "timestamp_sensor_local": self.moment}
        return {
            "base_data": {**told, "status_flags": [], "reading_quality_score": 1.0, "reading_confidence": 1.0},
        }

    def factor(self, kind: str) -> float:
        """Return log-normal noise: a factor around 1."""
        return math.exp(self.normal(_NOISE[kind]))

    def normal(self, deviation: float) -> float:
        return float(self.random.standard_normal()) * deviation * self.imperfections.noise_scale


def _gases(look: _Look) -> Reading:
    humidity = look.state.surroundings.relative_humidity_percent
    amounts = {
        name: physics.parts_per_billion(name, amount)
        for name, amount in look.state.concentrations_micrograms_m3.items()
        if name not in _PARTICLES
    }
    measured = {
        name: amounts.get(names[0], 0.0) + sum(amounts.get(n, 0.0) for n in names[1:])
        for name, names in _CHANNELS.items()
    }
    specific = {name for names in _CHANNELS.values() for name in names}
    others = sum(amount for name, amount in amounts.items() if name not in specific | {"CO", "NOx", "Ozone"})
    damp = 0.4 * max(0.0, humidity - 60)  # what humid air alone adds to the two general channels
    measured["7_general"] = amounts.get("NOx", 0.0) + 0.05 * amounts.get("CO", 0.0) + others + damp
    measured["8_general"] = amounts.get("Ozone", 0.0) + 0.02 * amounts.get("CO", 0.0) + 0.5 * others + damp
    gain = physics.humidity_gain(humidity)
    channels = {
        f"voc_channel_{name}_ppb": _float32(amount * gain * look.factor("VOCSensorArray"))
        for name, amount in measured.items()
    }
    return {
        "voc_sensor_type_specific": "TFSGS_MULTI2_ENV",
        **channels,
        "temperature_on_voc_sensor_celsius": _float32(_air(look, 0.3)),
        "humidity_on_voc_sensor_percent": _float32(_humidity(look, 1.5)),
        "voc_status_flags_specific": ["high_humidity"] if humidity > 90 else [],
    }


def _particles(look: _Look) -> Reading:
    held = look.state.concentrations_micrograms_m3
    fine = held.get("PM2.5", 0.0) * look.factor("ParticulateMatterSensor")
    coarse = (0.35 * held.get("PM2.5", 0.0) + held.get("PM10", 0.0)) * look.factor("ParticulateMatterSensor")
    masses = {"1_0": 0.7 * fine, "2_5": fine, "4_0": fine + 0.5 * coarse, "10_0": fine + coarse}
    return {
        "pm_sensor_type_specific": "SENSIRION_SPS30",
        **{f"mass_concentration_pm{size}_micrograms_per_m3": _float32(mass) for size, mass in masses.items()},
        **{
            f"number_concentration_pm{size}_particles_per_cm3": _float32(fine * number)
            for size, number in _PARTICLES_PER_MICROGRAM.items()
        },
        "typical_particle_size_micrometers": _float32(0.4 + 0.4 * coarse / (fine + coarse + 1e-9)),
        "pm_status_flags_specific": [],
    }


def _field(look: _Look) -> Reading:
    return {
        "emf_sensor_type_specific": "TF_EMF_PWR1",
        "ac_field_strength_microteslas": _float32(look.state.field_microteslas * look.factor("EMFSensor")),
        "dominant_frequency_hz": _float32(look.state.field_frequency_hz),
        "frequency_spectrum_data": None,
        "directional_sensitivity_x_axis": None,
        "directional_sensitivity_y_axis": None,
        "directional_sensitivity_z_axis": None,
        "emf_status_flags_specific": [],
    }


def _sound(look: _Look) -> Reading:
    level = look.state.sound_level_db + look.normal(_SOUND_NOISE_DB)
    return {
        "acoustic_sensor_type_specific": "KNOWLES_SPU0410HR5H",
        "sound_pressure_level_db": _float32(min(max(level, 0.0), 194.0)),
        "dominant_frequency_hz": None,
        "raw_waveform_data": None,
        "waveform_sampling_rate_hz": None,
        "frequency_spectrum_data": None,
        "acoustic_status_flags_specific": [],
    }


def _heat(look: _Look) -> Reading:
    image, air = _thermal_image(look), look.state.surroundings.air_temperature_celsius
    height, width = image.shape
    middle = image[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return {
        "thermal_sensor_type_specific": "FLIR_LEPTON_3_5",
        "thermal_image_celsius": image.tolist(),
        "image_height_pixels": height,
        "image_width_pixels": width,
        "field_of_view_horizontal_degrees": _FIELD_OF_VIEW[0],
        "field_of_view_vertical_degrees": _FIELD_OF_VIEW[1],
        "emissivity_setting_used": _float32(0.95),
        "focus_distance_meters": None,
        "lens_type": None,
        "calibration_date_utc": None,
        "detector_temperature_celsius": _float32(air),
        "ambient_temperature_at_sensor_celsius": _float32(air),
        "ambient_humidity_at_sensor_percent": _float32(look.state.surroundings.relative_humidity_percent),
        "distance_to_target_meters": None,
        "num_bad_pixels_corrected": 0,
        "derived_max_temp_celsius": _float32(float(image.max())),
        "derived_avg_temp_celsius_roi": _float32(float(middle.mean())),
        "derived_delta_temp_celsius_baseline": _float32(float(image.max()) - float(np.median(image))),
        "thermal_status_flags_specific": [],
    }


def _thermal_image(look: _Look) -> NDArray[np.float32]:
    """Return degrees Celsius, float32 (height, width): air, sun, a blob per hot spot, noise."""
    width, height = look.image_pixels
    now = look.state.surroundings
    image = np.full((height, width), now.air_temperature_celsius + 0.004 * now.solar_intensity_w_m2)
    columns, rows = np.arange(width)[None, :], np.arange(height)[:, None]
    for spot in look.state.hot_spots:
        east, north, up = spot.location
        distance = math.hypot(*spot.location)
        column = width / 2 + width / math.pi * math.atan2(east, abs(north) + 1.0)
        row = height / 2 - height / math.pi * math.atan2(up, math.hypot(east, north) + 1.0)
        row, column = round(row), round(column)  # on a pixel, so that the peak is the peak at every resolution
        radius = max(_BLOB_PIXELS * width / 160 / max(distance, 0.5), 1.0)
        rise = min(spot.rise_celsius, _HOTTEST_CELSIUS)
        image += rise * np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * radius**2))
    image += look.random.standard_normal(image.shape) * _IMAGE_NOISE_CELSIUS * look.imperfections.noise_scale
    return np.clip(image, -50.0, _HOTTEST_CELSIUS).astype(np.float32)


def _climate(look: _Look) -> dict[str, float]:
    return {"air_temperature_celsius": _air(look, 0.2), "relative_humidity_percent": _humidity(look, 1.0)}


def _pressure(look: _Look) -> dict[str, float]:
    return {"barometric_pressure_hpa": look.state.surroundings.pressure_hpa + look.normal(0.1)}


def _wind(look: _Look) -> dict[str, float]:
    now = look.state.surroundings
    return {
        "wind_speed_mps": max(0.0, now.wind_speed_mps + look.normal(0.1)),
        "wind_direction_degrees": (now.wind_direction_degrees + look.normal(3.0)) % 360,
    }


def _lightning(look: _Look) -> dict[str, float]:
    return {"storm_distance_km": _LIGHTNING_KILOMETRES}  # the sensor's word for: none in range


def _motion(look: _Look) -> dict[str, float]:
    shaking = 0.02 * look.state.surroundings.machinery
    return {"vertical_acceleration_mps2": 9.81 + look.normal(0.01 + shaking)}


def _air(look: _Look, deviation: float) -> float:
    return min(max(look.state.surroundings.air_temperature_celsius + look.normal(deviation), -50.0), 100.0)


def _humidity(look: _Look, deviation: float) -> float:
    return min(max(look.state.surroundings.relative_humidity_percent + look.normal(deviation), 0.0), 100.0)


def _float32(value: float) -> float:
    return float(np.float32(value))


_RECORDS: dict[str, Callable[[_Look], Reading]] = {
    "VOCSensorArray": _gases,
    "ParticulateMatterSensor": _particles,
    "EMFSensor": _field,
    "AcousticSensor": _sound,
    "ThermalCamera": _heat,
}
_SCALARS: dict[str, Callable[[_Look], dict[str, float]]] = {
    "TempHumiditySensor": _climate,
    "BarometricPressureSensor": _pressure,
    "Anemometer": _wind,
    "LightningDetector": _lightning,
    "IMU": _motion,
}
