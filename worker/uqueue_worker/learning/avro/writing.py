"""Writing Avro files: strictly, atomically, and with the values checked.

Each sample is encoded on its own, so that one that cannot be written is set aside and leaves no half record behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import fastavro

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.avro.checks import sample_problems
from uqueue_worker.learning.avro.container import PACKAGE_BYTES, SAMPLE_BYTES, SYNC_BYTES
from uqueue_worker.learning.avro.schemas import Schema, SchemaSet, packaged_schemas
from uqueue_worker.learning.errors import DatasetFormat, GenerationFailed, ScenarioInvalid

_BLOCK_BYTES = 64_000
_SENSOR = "com.envirosense.schema.sensor."
_MODEL_FIELDS = {
    "thermal_sensor_type_specific": "ThermalReading",
    "voc_sensor_type_specific": "VOCReading",
    "emf_sensor_type_specific": "EMFReading",
    "acoustic_sensor_type_specific": "AcousticReading",
    "pm_sensor_type_specific": "ParticulateMatterReading",
}
_ENCODING = (ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError)


@dataclass(frozen=True)
class WriteReport:
    """What became of a data set: where it is, its SHA-256, and which samples were set aside for what problems."""

    path: Path
    sha256: str
    schema_fingerprint: str
    written: int
    rejected: dict[str, list[str]] = field(default_factory=dict)


def write_samples(
    path: str | Path,
    samples: Iterable[Mapping[str, Any]],
    *,
    max_rejected_fraction: float = 0.05,
    schemas: SchemaSet | None = None,
    metadata: Mapping[str, str] | None = None,
) -> WriteReport:
    """Write MLDataSample records; the same samples give the same bytes.

    Samples that the schema or the value checks refuse go to `<path>.rejected.jsonl` with their problems. Raises
    GenerationFailed, and writes no data set, if they are more than `max_rejected_fraction` of all.
    """
    target = Path(path)
    schema_set = schemas or packaged_schemas()
    accepting = _Accepting(schema_set.parsed("MLDataSample"))
    with _replacing(target) as file:
        digest = _write(file, accepting.schema, accepting.encoded(samples), metadata)
        _quarantine(target, accepting.refused)
        total = accepting.written + len(accepting.refused)
        if len(accepting.refused) > max_rejected_fraction * total:
            raise GenerationFailed(reason=_too_many(accepting, total))
    rejected = {str(entry["sample_id"]): entry["problems"] for entry in accepting.refused}
    return WriteReport(target, digest, schema_set.fingerprint("MLDataSample"), accepting.written, rejected)


def write_definitions(path: str | Path, definitions: Iterable[ScenarioDefinition]) -> None:
    """Write scenario definitions to one Avro file."""
    schema = packaged_schemas().parsed("ScenarioDefinition")
    with _replacing(Path(path)) as file:
        _write(file, schema, (_encode(schema, definition.to_record(), "definition") for definition in definitions))


def write_packages(path: str | Path, packages: Iterable[Mapping[str, Any]]) -> None:
    """Write run packages: a definition (ScenarioDefinition or mapping) and what one run of it gave.

    `data_schema_versions` is filled with the fingerprints of the schemas used. Raises DatasetFormat or
    ScenarioInvalid for a package that is not one, or has more than 4 MiB: let it name a file of samples instead.
    """
    schema = packaged_schemas().parsed("ScenarioRunPackage")
    with _replacing(Path(path)) as file:
        _write(file, schema, (_encode(schema, _package(one), "package", PACKAGE_BYTES) for one in packages))


class _Accepting:
    """Encodes the samples that pass and keeps the others with their problems."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.written = 0
        self.refused: list[dict[str, Any]] = []
        self._last_times: dict[Any, float] = {}

    def encoded(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        for sample in samples:
            try:
                data = self._encoded(sample)
            except DatasetFormat as error:
                problems = error.facts.get("problems") or [error.message]
                identity = sample.get("sample_id") if isinstance(sample, Mapping) else None
                self.refused.append({"sample_id": identity, "problems": problems, "sample": sample})
            else:
                self.written += 1
                yield data

    def _encoded(self, sample: Mapping[str, Any]) -> bytes:
        if not isinstance(sample, Mapping):
            raise DatasetFormat(dataset="samples", reason="a sample is a mapping")
        data = _encode(self.schema, _tagged(sample), str(sample.get("sample_id")))
        _refuse(sample, [*sample_problems(sample), *self._backwards(sample)])
        return data

    def _backwards(self, sample: Mapping[str, Any]) -> list[str]:
        """Time never runs backwards within a run of a scenario (and a window of it)."""
        told = sample.get("sample_metadata") or {}
        run = (sample["scenario_id"], told.get("simulation_seed"), told.get("sequence_id"))
        last, now = self._last_times.get(run, 0.0), sample["scenario_timestep_seconds"]
        self._last_times[run] = max(last, now)
        return [f"scenario_timestep_seconds: {now:g} comes after {last:g} in its scenario"] if now < last else []


def _refuse(sample: Mapping[str, Any], problems: list[str]) -> None:
    if problems:
        raise DatasetFormat(dataset=str(sample["sample_id"]), reason="; ".join(problems[:5]), problems=problems)


def _tagged(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Name the record of each reading: left to itself, a writer takes any that fits and drops what it lacks."""
    container = sample.get("sensor_readings_map")
    readings = container.get("readings") if isinstance(container, Mapping) else None
    if not isinstance(container, Mapping) or not isinstance(readings, Mapping):
        raise DatasetFormat(dataset=str(sample.get("sample_id")), reason="it has no sensor_readings_map.readings")
    tagged = {sensor: _tagged_reading(sensor, reading) for sensor, reading in readings.items()}
    return {**sample, "sensor_readings_map": {**container, "readings": tagged}}


def _tagged_reading(sensor: str, reading: Any) -> tuple[str, Any] | None:
    if reading is None:
        return None
    names = [name for key, name in _MODEL_FIELDS.items() if isinstance(reading, Mapping) and key in reading]
    if len(names) != 1:
        raise DatasetFormat(dataset=sensor, reason=f"a reading has one of {', '.join(_MODEL_FIELDS)}")
    return _SENSOR + names[0], reading


def _encode(schema: Schema, record: Mapping[str, Any], name: str, limit: int = SAMPLE_BYTES) -> bytes:
    data = BytesIO()
    try:
        fastavro.schemaless_writer(data, schema, dict(record), strict_allow_default=True)
    except _ENCODING as error:
        raise DatasetFormat(dataset=name, reason=f"the schema refuses it: {str(error)[:300]}") from None
    if data.tell() > limit:
        raise DatasetFormat(dataset=name, reason=f"it has {data.tell()} bytes; {limit} are allowed")
    return data.getvalue()


def _package(package: Mapping[str, Any]) -> dict[str, Any]:
    try:
        identity = uuid.UUID(str(package.get("package_id")))
    except ValueError:
        raise ScenarioInvalid(reason="package_id: expected a uuid") from None
    given = package.get("scenario_definition") or {}
    definition = given if isinstance(given, ScenarioDefinition) else ScenarioDefinition.read(given)
    embedded = package.get("ml_data_samples_embedded")
    for sample in embedded or []:
        _refuse(sample, sample_problems(sample))
    return {
        "data_schema_versions": packaged_schemas().fingerprints(),
        **package,
        "package_id": identity,
        "scenario_definition": definition.to_record(),
        "ml_data_samples_embedded": None if embedded is None else [_tagged(sample) for sample in embedded],
    }


def _write(file: IO[bytes], schema: Schema, records: Iterable[bytes], metadata: Mapping[str, str] | None = None) -> str:
    """Write a container file and return its SHA-256."""
    mark = hashlib.sha256(json.dumps([schema["name"], *sorted((metadata or {}).items())]).encode()).digest()[
        :SYNC_BYTES
    ]
    header = BytesIO()
    fastavro.writer(header, schema, [], codec="deflate", metadata=dict(metadata or {}), sync_marker=mark)
    digest = hashlib.sha256(header.getvalue())
    file.write(header.getvalue())
    for block in _blocks(records, mark):
        digest.update(block)
        file.write(block)
    return digest.hexdigest()


def _blocks(records: Iterable[bytes], mark: bytes) -> Iterator[bytes]:
    held: list[bytes] = []
    for record in records:
        held.append(record)
        if sum(map(len, held)) >= _BLOCK_BYTES:
            yield _block(held, mark)
            held = []
    if held:
        yield _block(held, mark)


def _block(records: list[bytes], mark: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packing.compress(b"".join(records)) + packing.flush()
    return _number(len(records)) + _number(len(packed)) + packed + mark


def _number(value: int) -> bytes:
    """Return Avro's variable-length form of a number of at least 0."""
    value <<= 1
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """Yield a file beside the target that takes its place when all went well, and is removed when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _quarantine(target: Path, refused: list[dict[str, Any]]) -> None:
    path = target.with_name(f"{target.name}.rejected.jsonl")
    path.unlink(missing_ok=True)
    if refused:
        lines = [json.dumps(entry, default=str, skipkeys=True) + "\n" for entry in refused]
        with _replacing(path) as file:
            file.writelines(line.encode() for line in lines)


def _too_many(accepting: _Accepting, total: int) -> str:
    first = accepting.refused[0]
    return f"{len(accepting.refused)} of {total} samples were refused, the first: {'; '.join(first['problems'][:3])}"
