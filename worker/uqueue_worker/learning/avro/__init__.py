"""Labelled samples, scenario definitions and run packages as Avro files that any reader understands."""

from __future__ import annotations

from uqueue_worker.learning.avro.checks import sample_problems
from uqueue_worker.learning.avro.container import ReadLimits
from uqueue_worker.learning.avro.reading import iter_samples, read_definitions, read_packages, read_samples
from uqueue_worker.learning.avro.records import sample_record
from uqueue_worker.learning.avro.schemas import SchemaSet
from uqueue_worker.learning.avro.writing import write_definitions, write_packages, write_samples

__all__ = [
    "ReadLimits",
    "SchemaSet",
    "iter_samples",
    "read_definitions",
    "read_packages",
    "read_samples",
    "sample_problems",
    "sample_record",
    "write_definitions",
    "write_packages",
    "write_samples",
]
