"""The ledger: what Redis remembers of every job, and the only way its state changes.

A record is written together with the job's message, so an unknown id is not "pending". The result is committed by
the first writer, at the key where stock Celery clients look for it. Each step is one Lua script, hence atomic.

    commands.py   each step as a value: script, keys, arguments, how to read the answer. No I/O.
    records.py    what the answers look like
    letters.py    dead letters: what nobody could answer
    runner.py     runs commands on a Redis connection, plain or asyncio
    *.lua         the steps; `prelude.lua` is put before each
"""

from uqueue_config.ledger.commands import Application, Command, LedgerCommands
from uqueue_config.ledger.letters import Letter, Letters, Replayed, ReplayVerdict
from uqueue_config.ledger.records import (
    Attempt,
    Claim,
    ClaimedJob,
    JobRecord,
    JobStatus,
    Opened,
    Outcome,
    Swept,
    Verdict,
    Wish,
    success_meta,
    timestamp,
)
from uqueue_config.ledger.runner import AsyncLedger, Ledger, source

__all__ = [
    "Application",
    "AsyncLedger",
    "Attempt",
    "Claim",
    "ClaimedJob",
    "Command",
    "JobRecord",
    "JobStatus",
    "Ledger",
    "LedgerCommands",
    "Letter",
    "Letters",
    "Opened",
    "Outcome",
    "ReplayVerdict",
    "Replayed",
    "Swept",
    "Verdict",
    "Wish",
    "source",
    "success_meta",
    "timestamp",
]
