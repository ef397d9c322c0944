"""Which type of sensor an id stands for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DEFAULT_SENSOR_ID_TO_TYPE_MAPPING: Mapping[str, str] = MappingProxyType(
    {
        "U19_TFSGS": "VOCSensorArray",
        "U20_SPS30": "ParticulateMatterSensor",
        "U21_SHT85": "TempHumiditySensor",
        "U22_SHT85": "TempHumiditySensor",
        "U23_BMP388": "BarometricPressureSensor",
        "U24_FT205": "Anemometer",
        "U25_AS3935": "LightningDetector",
        "U26_Lepton35": "ThermalCamera",
        "U27_SPU0410HR5H": "AcousticSensor",
        "U28_SPU0410HR5H": "AcousticSensor",
        "U29_TFEMF": "EMFSensor",
        "U30_BMI270": "IMU",
    }
)
#: Channels of the gas sensor array, and (width, height) of the thermal camera in pixels.
VOC_CHANNELS = 8
THERMAL_PIXELS = (160, 120)


def sensor_types(given: Mapping[str, str] | None) -> dict[str, str]:
    """Return the map to use, as a new dict: the default for None; an empty map stays empty."""
    return dict(DEFAULT_SENSOR_ID_TO_TYPE_MAPPING if given is None else given)


def sensor_type_of(sensor_id: str | None, types: Mapping[str, str] | None) -> str | None:
    """Return the type of a sensor; None for None, for an id that the map does not know, and without a map."""
    return None if sensor_id is None or types is None else types.get(sensor_id)
