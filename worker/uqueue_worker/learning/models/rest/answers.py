"""What goes to an endpoint and what comes back, whichever dialect it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.features import Float32Array

PARTS = ("total", "epistemic", "aleatoric", "disagreement")
_MOST_CLASSES = 1000


class Unfit(ValueError):
    """An answer that its dialect does not allow; the message is for EndpointContract."""


@dataclass(frozen=True, eq=False)
class Question:
    """Rows to be predicted, float32 (n, columns), finite; `version` None asks for the server's own choice."""

    rows: Float32Array
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    version: str | None
    request_id: str
    explain: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int, request_id: str) -> Question:
        rows = self.rows[start:stop]
        return Question(rows, self.columns, self.classes, self.version, request_id, self.explain)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was said of some rows: labels, probabilities (n, K) or those of members (n, M, K), in the order `classes`.

    uncertainty   float64 (n,) by name, where the server gives them; NaN where it gives none for a row
    explanations  importance by column for each row
    """

    classes: tuple[str, ...]
    version: str | None
    labels: tuple[str, ...] | None = None
    shares: FloatArray | None = None
    uncertainty: Mapping[str, FloatArray] = field(default_factory=dict)
    explanations: tuple[Mapping[str, float], ...] | None = None


def answer_of(value: Any, question: Question, version: str | None, classes: tuple[str, ...] | None = None) -> Answer:
    """Read probabilities (n, K) or (n, M, K), one label or class number for each row, or objects of class and share.

    Raises Unfit for anything else, and for another number of rows than was asked about.
    """
    classes = classes or question.classes
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        value = [[row.get(name) for name in classes] for row in value if set(row) == set(classes)]
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return Answer(classes, version, labels=labels_of(value, len(question), classes))
    found = numbers(value, "predictions")
    if found.ndim == 1 and (found == found.astype(np.int64)).all():
        return Answer(classes, version, labels=_numbered(found, len(question), classes))
    if found.ndim not in (2, 3) or len(found) != len(question) or found.shape[-1] != len(classes):
        raise Unfit(f"expected probabilities ({len(question)}, {len(classes)}), got the shape {found.shape}")
    return Answer(classes, version, shares=found)


def numbers(value: Any, name: str) -> FloatArray:
    """Return nested lists of numbers as float64. Raises Unfit for gaps, text, infinities and unequal lengths."""
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError):
        raise Unfit(f"{name}: lists of unequal lengths, or too deep ones") from None
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise Unfit(f"{name}: expected finite numbers only")
    return found.astype(np.float64)


def labels_of(value: Any, n_rows: int, classes: Sequence[str]) -> tuple[str, ...]:
    """Return one label per row. Raises Unfit for another number of them, and for labels that are no class."""
    if not isinstance(value, list) or len(value) != n_rows or not all(isinstance(one, str) for one in value):
        raise Unfit(f"expected {n_rows} labels")
    unknown = sorted(set(value) - set(classes))
    if unknown:
        raise Unfit(f"labels that are none of its classes: {', '.join(unknown[:5])}")
    return tuple(value)


def classes_of(value: Any) -> tuple[str, ...]:
    """Return names of classes. Raises Unfit unless they are texts, each there once."""
    if not isinstance(value, list) or not 2 <= len(value) <= _MOST_CLASSES:
        raise Unfit(f"classes: expected 2 to {_MOST_CLASSES} names")
    if not all(isinstance(one, str) and one for one in value) or len(set(value)) != len(value):
        raise Unfit("classes: expected names, each once")
    return tuple(value)


def text_of(value: Any, name: str) -> str | None:
    """Return a text, None where there is none; numbers count as their digits. Raises Unfit for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        raise Unfit(f"{name}: expected a text")
    return str(value)


def members_of(value: Any, name: str) -> Mapping[str, Any]:
    """Return a JSON object. Raises Unfit for anything else."""
    if not isinstance(value, Mapping):
        raise Unfit(f"{name}: expected an object")
    return value


def _numbered(found: FloatArray, n_rows: int, classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(found) != n_rows or (found < 0).any() or (found >= len(classes)).any():
        raise Unfit(f"expected {n_rows} class numbers below {len(classes)}")
    return tuple(classes[int(one)] for one in found)
