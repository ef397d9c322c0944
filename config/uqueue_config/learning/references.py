"""References: what the tasks of active learning pass on instead of the things themselves."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from uqueue_config.learning.record import Record
from uqueue_config.learning.values import Count, Identifier

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class ModelRef(Record):
    """One version of a model; `sha` is the SHA-256 of its file in hexadecimal, where it is known."""

    name: Identifier
    version: Identifier
    sha: Sha256 | None = None


class DatasetRef(Record):
    """A data set of `n` samples in a file, by content."""

    uri: Identifier
    sha256: Sha256
    n: Count
    schema_fingerprint: Fingerprint


class ScenarioRef(Record):
    """One version of a scenario definition."""

    id: Identifier
    version: Annotated[int, Field(ge=1)]


class SpotRef(Record):
    """A weak spot of one cycle of a run; cycles count from 0."""

    run: Identifier
    cycle: Count
    id: Identifier


class JobRef(Record):
    """A job of the queue."""

    id: Identifier
