"""Chunks with their answers, put together before they are added up: a thousand rows cost little more than a hundred."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np

from uqueue_config.classification import PARTS, Classification
from uqueue_worker.learning.models.sample_table import SampleTable

ROWS = 1024


class Gathered:
    """Chunks that are alike: of the same sensors, answered with the same parts."""

    def __init__(self) -> None:
        self.rows = 0
        self._tables: list[SampleTable] = []
        self._answers: list[Classification] = []

    def fits(self, table: SampleTable, answer: Classification) -> bool:
        """Tell whether one more chunk can be put to the others."""
        if not self._tables:
            return True
        return table.sensors == self._tables[0].sensors and _kind(answer) == _kind(self._answers[0])

    def add(self, table: SampleTable, answer: Classification) -> None:
        self.rows += len(table)
        self._tables.append(table)
        self._answers.append(answer)

    def take(self) -> tuple[SampleTable, Classification]:
        """Return all chunks as one, in their order, and begin anew."""
        tables, answers = self._tables, self._answers
        self.rows, self._tables, self._answers = 0, [], []
        if len(tables) == 1:
            return tables[0], answers[0]
        names = ("probabilities", *(name for name in PARTS if getattr(answers[0], name) is not None))
        joined = {name: np.concatenate([getattr(one, name) for one in answers]) for name in names}
        return _joined(tables), replace(answers[0], **joined)


def _kind(answer: Classification) -> tuple[object, ...]:
    return answer.classes, answer.method, *(getattr(answer, name) is None for name in PARTS)


def _joined(tables: list[SampleTable]) -> SampleTable:
    return replace(
        tables[0],
        ids=tuple(chain.from_iterable(one.ids for one in tables)),
        values=np.concatenate([one.values for one in tables]),
        labels=tuple(chain.from_iterable(one.labels for one in tables)),
        scenario_ids=tuple(chain.from_iterable(one.scenario_ids for one in tables)),
        seconds=tuple(chain.from_iterable(one.seconds for one in tables)),
        present=np.concatenate([one.present for one in tables]),
    )
