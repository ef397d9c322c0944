"""The Avro schemas: one file per record, named by its full name."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import fastavro.schema

from uqueue_worker.learning.avro.lean import field_names, lean

Schema = dict[str, Any]
PACKAGED = Path(__file__).with_name("schemas")
_PREFIX = "com.envirosense.schema"
_READINGS = (
    "sensor.ThermalReading",
    "sensor.VOCReading",
    "sensor.EMFReading",
    "sensor.AcousticReading",
    "sensor.ParticulateMatterReading",
)
_NEEDS = {
    **dict.fromkeys(_READINGS, ("sensor.SensorReadingBase",)),
    "collection.SensorReadingsMap": _READINGS,
    "ml.MLDataSample": ("ml.GroundTruthLabels", "collection.SensorReadingsMap"),
    "scenario.ScenarioRunPackage": ("scenario.ScenarioDefinition", "ml.MLDataSample"),
}
_NAMES = ("sensor.SensorReadingBase", "ml.GroundTruthLabels", "scenario.ScenarioDefinition", *_NEEDS)
#: The schemas by their short names, in an order in which each comes after those it names.
SCHEMA_NAMES = tuple(name.rpartition(".")[2] for name in _NAMES)


class SchemaSet:
    """The schemas in a folder, by default those of this package. They are read at the first use.

    A folder of one's own holds the same eleven files; fields may be added to them if they have defaults.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = Path(folder) if folder is not None else PACKAGED
        self._parsed: dict[str, Schema] = {}
        self._fingerprints: dict[str, str] = {}
        self._lean: dict[tuple[str, frozenset[str]], Schema] = {}

    def parsed(self, name: str) -> Schema:
        """Return the schema of that short name (`MLDataSample`), self-contained. Raises KeyError for another name."""
        if name not in self._parsed:
            qualified = _NAMES[SCHEMA_NAMES.index(name)] if name in SCHEMA_NAMES else None
            if qualified is None:
                raise KeyError(f"there is no schema {name!r}; there are {', '.join(SCHEMA_NAMES)}")
            files = [str(self._folder / f"{_PREFIX}.{one}.avsc") for one in _ordered(qualified)]
            # a schema parsed beside others keeps their names only, and nobody could read a file with such a header
            self._parsed[name] = fastavro.schema.load_schema_ordered(files)  # type: ignore[assignment]
        return self._parsed[name]

    def lean(self, name: str, wanted: Collection[str]) -> Schema:
        """Return a schema that reads the same bytes in less time, and only the fields named in `wanted` as meant.

        Raises KeyError as `parsed` does.
        """
        parsed = self.parsed(name)
        key = name, frozenset(wanted).intersection(field_names(parsed))
        if key not in self._lean:
            self._lean[key] = fastavro.schema.parse_schema(lean(parsed, key[1]))  # type: ignore[assignment]
        return self._lean[key]

    def fingerprint(self, name: str) -> str:
        """Return 16 hex digits of SHA-256 over the schema's parsing canonical form."""
        if name not in self._fingerprints:
            self._fingerprints[name] = fingerprint(self.parsed(name))
        return self._fingerprints[name]

    def fingerprints(self) -> dict[str, str]:
        return {name: self.fingerprint(name) for name in SCHEMA_NAMES}


@cache
def packaged_schemas() -> SchemaSet:
    return SchemaSet()


def fingerprint(schema: Any) -> str:
    """Return 16 hex digits of SHA-256 over a schema's parsing canonical form, which leaves out docs and defaults."""
    canonical: str = fastavro.schema.to_parsing_canonical_form(schema)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _ordered(name: str) -> list[str]:
    """Return what `name` needs, each once and after its own needs, and `name` last."""
    found: dict[str, None] = {}
    for needed in _NEEDS.get(name, ()):
        found.update(dict.fromkeys(_ordered(needed)))
    return [*found, name]
