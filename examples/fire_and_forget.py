"""Submit many jobs at once, keep only their ids, and collect the answers later, here with asyncio."""

from __future__ import annotations

import asyncio

import uqueue

ROWS = [[[0.98 - 0.003 * n, 514.5 + 2.5 * n, 294.0, 110.25, 7.0, 2.0, 0.1, 1.0]] for n in range(100)]


async def main() -> None:
    async with uqueue.AsyncClient() as client:
        ids = [job.id for job in await client.submit_many(ROWS)]
        answers = await asyncio.gather(*(client.job(id).result(timeout=60) for id in ids))
    widths = [float(answer.width[0, 0]) for answer in answers]
    print(f"{len(answers)} answers; the first target's intervals are {min(widths):.2f} to {max(widths):.2f} wide")


asyncio.run(main())
