"""The reckoning after a run: what was accepted, against what the service and its observers say became of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.listener import Listener
from chaos.producers import Accepted
from chaos.requests import Mix, request
from chaos.town import Town
from uqueue_config.connections import connect
from uqueue_config.errors import JobAbandoned
from uqueue_config.ledger import JobRecord, Ledger, LedgerCommands
from uqueue_config.names import JobState, job_key
from uqueue_config.prediction import IntervalPrediction
from uqueue_config.seeds import seed_from_job_id
from uqueue_worker.models import IntervalModel

CHUNK = 500
#: Nothing may be open this long after the last fault.
SETTLE_SECONDS = 30.0


@dataclass
class Reckoning:
    """Ids of jobs for which something is not as it must be, and counts of what happened.

    unfinished  accepted and in no final state
    doubled     more than one first outcome, as the commits' replies or the announcements say
    wrong       another outcome than the model gives for their rows, byte for byte; for poison, than being given up
    unburied    poison that is no dead letter, and dead letters that are no poison
    recomputed  computations beyond one per job, and `restarted` jobs that were started more than once, without poison
    surplus     outcomes that came second and changed nothing
    announced   jobs whose outcome the listener heard of
    """

    jobs: int = 0
    poison: int = 0
    letters: int = 0
    unfinished: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unburied: list[str] = field(default_factory=list)
    recomputed: int = 0
    restarted: int = 0
    surplus: int = 0
    announced: int = 0

    @property
    def failures(self) -> dict[str, list[str]]:
        found = {name: getattr(self, name) for name in ("unfinished", "doubled", "wrong", "unburied")}
        return {name: ids for name, ids in found.items() if ids}

    def line(self) -> str:
        return (
            f"{self.jobs} jobs accepted: {len(self.unfinished)} not terminal, {len(self.doubled)} doubled, "
            f"{len(self.wrong)} wrong; dead letters {self.letters}, poison {self.poison}; "
            f"{self.recomputed} recomputed, {self.restarted} started more than once, {self.surplus} outcomes second"
        )


def open_jobs(town: Town, accepted: Sequence[Accepted]) -> list[str]:
    """Return the ids of jobs that have not ended."""
    with connect(town.service.settings.broker) as connection:
        states: list[Any] = []
        for first in range(0, len(accepted), CHUNK):
            pipeline = connection.pipeline(transaction=False)
            for job in accepted[first : first + CHUNK]:
                pipeline.hget(job_key(job.id), "state")
            states += pipeline.execute()
    return [
        job.id
        for job, state in zip(accepted, states, strict=True)
        if state is None or not JobState(state.decode()).terminal
    ]


def settle(town: Town, accepted: Sequence[Accepted]) -> list[str]:
    """Return the jobs that are open after SETTLE_SECONDS, as soon as there is none."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (still_open := open_jobs(town, accepted)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return still_open


def reckon(town: Town, seed: int, mix: Mix, accepted: Sequence[Accepted], listener: Listener | None) -> Reckoning:
    """Look at every job that was accepted, and at everything that was noted about it elsewhere."""
    found = Reckoning(jobs=len(accepted))
    ids = [job.id for job in accepted]
    assert len(set(ids)) == len(ids), "every job has an id of its own"
    _check_outcomes(found, town, seed, mix, accepted)
    _check_letters(found, town, {job.id for job in accepted if job.kind == "poison"})
    effects = town.effects()
    found.recomputed = effects.recomputed(job.id for job in accepted if job.kind != "poison")
    found.surplus = effects.surplus
    heard = listener.heard if listener else Counter[str]()
    found.announced = sum(1 for job_id in ids if heard[job_id])
    found.doubled = [job_id for job_id in ids if effects.first[job_id] > 1 or heard[job_id] > 1]
    if effects.firsts > len(effects.ended):  # also where a commit's reply does not say which of its outcomes were first
        found.doubled.append(f"{effects.firsts} first outcomes of {len(effects.ended)} jobs")
    return found


def _check_outcomes(found: Reckoning, town: Town, seed: int, mix: Mix, accepted: Sequence[Accepted]) -> None:
    settings = town.service.settings
    commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
    with connect(settings.broker) as connection:
        ledger = Ledger(connection)
        for job in accepted:
            record = ledger.run(commands.read(job.id, with_result=True))
            if record is None or not record.state.terminal:
                found.unfinished.append(job.id)
                continue
            found.restarted += record.attempts > 1 and job.kind != "poison"
            if not (_was_given_up(record) if job.kind == "poison" else _is_right(record, town.model, seed, mix, job)):
                found.wrong.append(f"{job.id} ({job.kind}): {record.state}, {record.attempts} attempts, {record.error}")


def _was_given_up(record: JobRecord) -> bool:
    return record.state is JobState.FAILED and isinstance(record.error, JobAbandoned)


def _is_right(record: JobRecord, model: IntervalModel, seed: int, mix: Mix, job: Accepted) -> bool:
    if record.state is not JobState.SUCCEEDED or record.celery_meta is None:
        return False
    answer = IntervalPrediction.from_message(record.celery_meta["result"])
    expected = model.predict(request(seed, job.number, mix).table, seed=seed_from_job_id(job.id))
    arrays = ("lower", "upper", "passes_used", "pass_std")
    return all(getattr(answer, name).tobytes() == getattr(expected, name).tobytes() for name in arrays)


def _check_letters(found: Reckoning, town: Town, poison: set[str]) -> None:
    letters = town.client.dead_letters.list(0, 10_000).letters
    buried = [letter.job_id or f"letter {letter.number}" for letter in letters]
    found.poison, found.letters = len(poison), len(buried)
    found.unburied = sorted((set(buried) ^ poison) | {one for one in buried if buried.count(one) > 1})
