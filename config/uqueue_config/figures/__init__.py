"""Figures that all processes of a service count together, in Redis.

definitions.py   what is counted: names, labels, buckets
outbox.py        what one process has counted and Redis does not have yet
sums.py          what Redis has, read

A process adds to its outbox in memory and sends what has come together about once a second, so that counting costs no
command per job. Sums outlive the processes, and several gateways show the same.
"""

from __future__ import annotations

from uqueue_config.figures.definitions import FIGURES, Figure
from uqueue_config.figures.outbox import Outbox, Parcel
from uqueue_config.figures.sums import Distribution, Sums

__all__ = ["FIGURES", "Distribution", "Figure", "Outbox", "Parcel", "Sums"]
