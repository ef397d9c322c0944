"""How much chaos: little for `make test`; `make chaos` sets these variables to much."""

from __future__ import annotations

import os


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, str(default)))


SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split(",")]
#: With the lane and, where asked for, as ordinary Celery tasks.
LANES = os.environ.get("CHAOS_LANES", "on").split(",")
JOBS = _number("CHAOS_JOBS", 1_000)
FAULTS = _number("CHAOS_FAULTS", 8)
KILLS = _number("CHAOS_KILLS", 6)
#: Where processes kill themselves: see `chaos.app.POINTS`; `asked,claimed` is the window around a claim.
KILL_POINTS = os.environ.get("CHAOS_KILL_POINTS", "asked,claimed,computing,computed,committed")
CUTS = _number("CHAOS_CUTS", 20)
RESTARTS = _number("CHAOS_RESTARTS", 2)
OUTAGE_SECONDS = _number("CHAOS_OUTAGE_SECONDS", 10)
#: What happens to campaigns of active learning: `some` of all faults, in one campaign, or `all` of them, in several.
LEARNING_FAULTS = os.environ.get("CHAOS_LEARNING_FAULTS", "some")
#: For how long PostgreSQL is away where an outage is one of them.
LEARNING_AWAY_SECONDS = 1.0
#: Names the folder in which tests and processes of `chaos.learning_app` meet.
LEARNING_POINTS = "CHAOS_LEARNING_POINTS"
