"""The forward response: what sensors read of a scenario at one moment of it, without noise and fluctuations.

The moment is at six tenths of the duration, where what rises and falls is strong and what grows has grown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.learning.feature_path import READINGS, FeaturePath, parse_feature_path
from uqueue_worker.learning.avro.records import moment_of
from uqueue_worker.learning.models.reduction import NotNumeric, as_number, reduced
from uqueue_worker.learning.scenarios import FamilyScenario
from uqueue_worker.learning.scenarios.parameters import Parameters
from uqueue_worker.learning.sensors import sensor_types
from uqueue_worker.learning.simulator import EnvironmentOrchestrator, Imperfections, SensorUnit, Surroundings

FloatArray = NDArray[np.float64]
Family = type[FamilyScenario]
_PIXELS = (16, 12)  # hot spots have the same peak at every resolution
_STEPS = 4
_MOMENT = 0.6  # of the duration


class SimulatorSpent(Exception):
    """The calls or the time that a strategy has for the simulator are used up."""


class ForwardModel:
    """Simulates single moments. `sensor_id_to_type_map` as for a SensorUnit."""

    def __init__(self, sensor_id_to_type_map: Mapping[str, str] | None = None) -> None:
        self._types = sensor_types(sensor_id_to_type_map)

    def response(self, family: Family, parameters: Parameters, paths: Sequence[str]) -> FloatArray:
        """Return what a scenario gives for each feature path, float64 (paths,); NaN where it gives nothing.

        Raises ScenarioParameterError for parameters that are not the family's.
        """
        parsed = [parse_feature_path(path) for path in paths]
        sample = self._moment(family, parameters, {sensor for path in parsed for sensor in self._sensors(path)})
        return np.array([_number(sample, path) for path in parsed], dtype=np.float64)

    def _sensors(self, path: FeaturePath) -> list[str]:
        if path.sensor_id is not None:
            return [path.sensor_id]
        return [sensor for sensor in self._types if str(path.segments[-1]).startswith(f"{sensor}__")]

    def _moment(self, family: Family, parameters: Parameters, sensors: set[str]) -> dict[str, Any]:
        scenario = family("forward", "forward", **parameters.to_dict())
        calm = _CalmEnvironment()
        scenario.setup_environment(calm)
        step = (scenario.expected_duration_seconds or family.duration_seconds) * _MOMENT / _STEPS
        for _ in range(_STEPS):
            scenario.update(step, calm)
            calm.update(step)
        types = {sensor: kind for sensor, kind in self._types.items() if sensor in sensors}
        unit = SensorUnit(types, _PIXELS, Imperfections(noise_scale=0.0))
        readings, scalars = unit.read(calm.get_state(), moment_of(scenario.current_time_seconds))
        return {READINGS[0]: {READINGS[1]: readings}, "sample_metadata": scalars}


class Meter:
    """A forward model with so many calls and so much time; afterwards it raises SimulatorSpent."""

    def __init__(
        self,
        forward: ForwardModel,
        max_calls: int,
        deadline_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forward = forward
        self._max_calls = max_calls
        self._clock = clock
        self._end = clock() + deadline_seconds
        self.calls = 0

    def response(self, family: Family, parameters: Parameters, paths: Sequence[str]) -> FloatArray:
        """Return what ForwardModel.response does. Raises SimulatorSpent when calls or time are used up."""
        if self.calls >= self._max_calls or self._clock() >= self._end:
            raise SimulatorSpent
        self.calls += 1
        return self._forward.response(family, parameters, paths)


class _Middle(np.random.Generator):
    """A random stream that gives the middle of what is drawn."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return (low + high) / 2

    def random(self, *given: Any, **named: Any) -> Any:
        return 0.5


class _CalmEnvironment(EnvironmentOrchestrator):
    """Surroundings that stay what they usually are."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.random = _Middle()

    def _fluctuating(self) -> Surroundings:
        return self._current


def _number(sample: Any, path: FeaturePath) -> float:
    value = sample
    try:
        for segment in path.segments:
            value = value[segment]
        return reduced(value, path.reducer) if path.reducer else as_number(value)
    except (KeyError, IndexError, TypeError, NotNumeric):
        return math.nan
