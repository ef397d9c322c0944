"""The samples to report, as many as the options allow, chosen as they come by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.evaluation import EvaluationOptions, Reported
from uqueue_worker.learning.models.features import FeatureSpec, MissingReport
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.queue.chunks import part_of
from uqueue_worker.learning.models.sample_table import SampleTable
from uqueue_worker.learning.models.scores import UNLABELLED, Outcome
from uqueue_worker.learning.models.selection import misclassified_rows, uncertain_rows, uncertainty_scores

_TIE = 1e-8  # more than by what scores differ that count as equal


@dataclass(frozen=True, eq=False)
class _Row:
    """One sample that may be reported: a table and predictions of one row, and its place in the data set."""

    place: int
    table: SampleTable
    said: Predictions


@dataclass(frozen=True, eq=False)
class _Entry:
    """`rank` is the negative score, then the id: the best entry is the first."""

    rank: tuple[float, str]
    of_class: str
    row: _Row


class _Best:
    """The best entries of one list: at most so many, and at most so many of each class."""

    def __init__(self, at_most: int | None, per_class: int | None) -> None:
        self._at_most = at_most
        self._per_class = per_class
        self.entries: list[_Entry] = []

    @property
    def floor(self) -> float:
        """Scores below it cannot get in any more."""
        return -self.entries[-1].rank[0] if self._at_most and len(self.entries) == self._at_most else -math.inf

    def add(self, entries: Sequence[_Entry]) -> None:
        """Take the best of what is there and these: what does not stay among a part never stays among all."""
        if not entries:
            return
        ranked = sorted([*self.entries, *entries], key=attrgetter("rank"))
        if self._per_class is not None:
            seen: Counter[str] = Counter()
            kept = []
            for one in ranked:
                seen[one.of_class] += 1
                if seen[one.of_class] <= self._per_class:
                    kept.append(one)
            ranked = kept
        self.entries = ranked[: self._at_most]


class Kept:
    """Both lists of feedback over all chunks given to `add`; memory is bounded where the options bound the lists."""

    def __init__(self, options: EvaluationOptions) -> None:
        self._options = options
        self._uncertain = _Best(options.max_uncertain, options.max_per_class)
        self._wrong = _Best(options.max_misclassified, options.max_per_class)
        self._first = 0

    def add(self, table: SampleTable, said: Predictions, outcome: Outcome) -> None:
        options, rows = self._options, {}
        scores = uncertainty_scores(said, options.uncertainty_score)
        uncertain = uncertain_rows(
            scores,
            outcome,
            table.ids,
            threshold=max(options.uncertainty_threshold, self._uncertain.floor - _TIE),
            at_most=options.max_uncertain,
            per_class=options.max_per_class,
        )
        wrong = misclassified_rows(
            said.confidence, outcome, table.ids, at_most=options.max_misclassified, per_class=options.max_per_class
        )
        uncertain = _above(uncertain, scores, self._uncertain.floor)
        wrong = _above(wrong, said.confidence, self._wrong.floor)
        for row in {*uncertain.tolist(), *wrong.tolist()}:
            rows[row] = _Row(self._first + row, part_of(table, [row]), _rows_of(said, [row]))
        self._uncertain.add(_entries(uncertain, scores, outcome, rows))
        self._wrong.add(_entries(wrong, said.confidence, outcome, rows))
        self._first += len(table)

    def table(
        self, spec: FeatureSpec, identifier: str, missing: MissingReport
    ) -> tuple[SampleTable, Predictions, Reported] | None:
        """Return the samples of both lists as a table of their own, in the order of the data set; None for none."""
        both = {one.row.place: one.row for best in (self._uncertain, self._wrong) for one in best.entries}
        if not both:
            return None
        rows = [both[place] for place in sorted(both)]
        at = {row.place: number for number, row in enumerate(rows)}
        uncertain, wrong = (
            np.array([at[one.row.place] for one in best.entries], np.int64) for best in (self._uncertain, self._wrong)
        )
        most = self._options.max_explained
        explained = np.union1d(uncertain[:most], wrong[:most]).astype(np.int64)
        table = SampleTable(
            spec=spec,
            identifier=identifier,
            ids=tuple(row.table.ids[0] for row in rows),
            values=np.concatenate([row.table.values for row in rows]),
            labels=tuple(row.table.labels[0] for row in rows),
            scenario_ids=tuple(row.table.scenario_ids[0] for row in rows),
            seconds=tuple(row.table.seconds[0] for row in rows),
            sensors=(),
            present=np.zeros((len(rows), 0), bool),
            missing=missing,
        )
        return table, Predictions.joined([row.said for row in rows]), Reported(uncertain, wrong, explained)


def _above(rows: IntArray, scores: FloatArray | None, floor: float) -> IntArray:
    return rows if scores is None else rows[scores[rows] >= floor]


def _entries(rows: IntArray, scores: FloatArray | None, outcome: Outcome, kept: dict[int, _Row]) -> list[_Entry]:
    found = []
    for row in rows.tolist():
        true = int(outcome.true[row])
        number = int(outcome.predicted[row]) if true == UNLABELLED else true
        rank = 0.0 if scores is None else -float(scores[row]), kept[row].table.ids[0]
        found.append(_Entry(rank, outcome.classes[number], kept[row]))
    return found


def _rows_of(said: Predictions, rows: list[int]) -> Predictions:
    def some(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[rows]

    return Predictions(
        classes=said.classes,
        predicted=said.predicted[rows],
        probabilities=some(said.probabilities),
        total=some(said.total),
        epistemic=some(said.epistemic),
        aleatoric=some(said.aleatoric),
        disagreement=some(said.disagreement),
        model_version=said.model_version,
        uncertainty_method=said.uncertainty_method,
    )
