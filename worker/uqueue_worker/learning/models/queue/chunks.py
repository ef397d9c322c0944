"""A data set as tables of a few rows, of which one is held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from uqueue_config.classification import Classification
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.models.datasets import Dataset
from uqueue_worker.learning.models.features import FeatureSpec, MissingReport
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.sample_table import SampleTable, read_table


@dataclass(frozen=True, eq=False)
class Chunks:
    """`total` is the number of samples, None for a file."""

    identifier: str
    spec: FeatureSpec
    total: int | None
    tables: Iterable[SampleTable]


def chunks_of(dataset: Dataset, spec: FeatureSpec, rows: int, label: str | None) -> Chunks:
    """Return a data set as tables of at most so many rows. A list, which its owner holds anyway, is read at once.

    Raises as `read_table` does, for a file while it is read; a feature that too many samples lack shows at its end.
    """
    if dataset.identifier is None:
        table = read_table(dataset.samples, spec, label=label)
        return Chunks(table.identifier, spec, len(table), list(_cut(table, rows)))
    return Chunks(dataset.identifier, spec, None, _read(dataset.samples, dataset.identifier, spec, rows, label))


def part_of(table: SampleTable, rows: Any, missing: MissingReport | None = None) -> SampleTable:
    """Return some rows of a table, by a slice or by their numbers."""
    chosen = range(len(table))[rows] if isinstance(rows, slice) else rows
    return replace(
        table,
        ids=tuple(table.ids[row] for row in chosen),
        values=table.values[rows],
        labels=tuple(table.labels[row] for row in chosen),
        scenario_ids=tuple(table.scenario_ids[row] for row in chosen),
        seconds=tuple(table.seconds[row] for row in chosen),
        present=table.present[rows],
        missing=missing or table.missing,
    )


def predictions_of(answer: Classification, manifest: ModelManifest) -> Predictions:
    """Return an answer as all model interfaces have it."""
    return Predictions.from_probabilities(
        answer.probabilities,
        answer.classes,
        model_version=manifest.reference,
        uncertainty_method=answer.method,
        total=answer.total,
        epistemic=answer.epistemic,
        aleatoric=answer.aleatoric,
        disagreement=answer.disagreement,
    )


def no_predictions(manifest: ModelManifest, rows: int) -> Predictions:
    """Return predictions of rows that were all not answered."""
    members = np.zeros((0, manifest.uncertainty.members, len(manifest.classes)))
    none = Predictions.from_members(
        members, manifest.classes, model_version=manifest.reference, uncertainty_method=manifest.uncertainty.text
    )
    return none.spread([], rows)


def _cut(table: SampleTable, rows: int) -> Iterator[SampleTable]:
    for first in range(0, len(table), rows):
        yield part_of(table, slice(first, first + rows))


def _read(
    samples: Iterable[Mapping[str, Any]], name: str, spec: FeatureSpec, rows: int, label: str | None
) -> Iterator[SampleTable]:
    # Whether too many samples lack a feature is decided over all of them.
    lenient, rest, done = replace(spec, max_missing_rate=1.0), iter(samples), 0
    for first in rest:
        part = chain([first], islice(rest, rows - 1))
        table = read_table(part, lenient, identifier=f"{name} from sample {done}", label=label)
        done += len(table)
        yield table
