"""Webhooks: a gateway that runs tells the ends of jobs to whoever asked for it when the job was submitted.

Every gateway does, for all: it hears the announcements of the jobs that it took itself, and looks now and then for
those whose gateway has gone. Delivery is at least once; a receiver knows a repetition by its `webhook-id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from urllib.parse import urlsplit

from pydantic_core import to_json
from redis.exceptions import RedisError

from uqueue.ears import Ears
from uqueue.gateway import logs
from uqueue.gateway.metrics import Metrics
from uqueue.gateway.webhooks_signing import Secrets, headers_of
from uqueue.gateway.webhooks_store import MOST_LOOKS, Due, Outcome, WebhookState, WebhookStore
from uqueue.gateway.webhooks_target import Answer, Rules, Target, TargetRefused, post
from uqueue_config.connections import connect_async, translated
from uqueue_config.errors import SettingsError
from uqueue_config.names import result_key
from uqueue_config.settings import Settings

#: Webhooks that one gateway sends at a time, and those of them that may go to one host.
MOST_SENDING, MOST_TO_A_HOST = 64, 8
#: Jobs whose announcements one gateway waits for; the ends of others are found by looking.
MOST_WATCHED = 10_000
WATCH_SECONDS = 600.0
#: How often a gateway looks for what is due.
LOOK_SECONDS = 1.0
#: Time to note what became of a try, beyond the time that it may take.
LEASE_MARGIN_SECONDS = 20.0
LONGEST_DELAY_SECONDS = 6 * 3600.0
#: How long a stopping gateway waits for receivers.
CLOSE_SECONDS = 3.0
GONE = 410


class Webhooks:
    """Keeps and sends webhooks. Nothing is opened before `start` or `accept`."""

    def __init__(self, settings: Settings, secrets: Secrets, metrics: Metrics) -> None:
        self._settings, self._secrets, self._metrics = settings, secrets, metrics
        self.rules = Rules(settings.webhook_allow_http == "on", settings.webhook_allow_private == "on")
        self._timeout = settings.webhook_timeout_seconds.total_seconds()
        self._redis = connect_async(settings.result_store)
        self._store = WebhookStore(settings, self._redis)
        self._ears = Ears(connect_async(settings.result_store, reply_seconds=None))
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()
        self._sending: dict[asyncio.Task[None], str] = {}
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None

    def start(self) -> None:
        """Send webhooks from now on, in the background."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Take no more, wait a moment for what is under way. What is not told by then, another gateway tells."""
        for task in (self._running, *self._watching.values()):
            if task is not None:
                task.cancel()
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_SECONDS)
        for task in [*self._sending]:
            task.cancel()
        running = [] if self._running is None else [self._running]
        await asyncio.gather(*running, *self._sending, *self._watching.values(), return_exceptions=True)
        await self._ears.close()
        await self._redis.aclose()

    async def accept(self, job_id: str, url: str, prefix: str) -> bool:
        """Keep where the end of a job is to be told, before it is opened; False where the job is known without it.

        Raises ServiceUnreachable, StoreFull.
        """
        with translated(self._settings.result_store):
            return await self._store.put(job_id, url, prefix) != "conflict"

    async def state(self, job_id: str) -> WebhookState | None:
        """Return how telling the end of a job goes, None where nobody is told. Raises ServiceUnreachable."""
        with translated(self._settings.result_store):
            return await self._store.state(job_id)

    def watch(self, job_id: str) -> None:
        """Hear of the end of a job at once."""
        if job_id not in self._watching and len(self._watching) < MOST_WATCHED:
            self._watching[job_id] = asyncio.get_running_loop().create_task(self._listen(job_id))

    async def _listen(self, job_id: str) -> None:
        try:
            async with self._ears.listening(result_key(job_id)) as ear:
                if await ear.next(WATCH_SECONDS) is not None:
                    self._ended.add(job_id)
                    self._wake.set()
        except RedisError:
            pass  # its end is found by looking
        finally:
            self._watching.pop(job_id, None)

    async def _run(self) -> None:
        complained = False
        while True:
            self._wake.clear()
            try:
                took = await self._turn()
                complained = False
            except (RedisError, SettingsError) as error:
                if not complained:
                    logs.write(logging.WARNING, "webhooks_paused", reason=str(error))
                complained, took = True, False
            if not took:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)

    async def _turn(self) -> bool:
        """Take what is due and begin to send it; returns whether there may be more."""
        free = MOST_SENDING - len(self._sending)
        if not free:
            return False
        ended, self._ended = self._ended, set()
        try:
            taken = await self._store.take(free, self._timeout + LEASE_MARGIN_SECONDS, ended)
        except RedisError:
            self._ended |= ended
            raise
        for job_id in taken.open_jobs:
            self.watch(job_id)
        for due in taken.due:
            host = urlsplit(due.url).netloc.lower()
            if list(self._sending.values()).count(host) < MOST_TO_A_HOST:
                task = asyncio.get_running_loop().create_task(self._tell(due))
                self._sending[task] = host
                task.add_done_callback(self._told)
            else:
                delay = LOOK_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311
                await self._store.note(due, "later", status=0, reason="", delay_seconds=delay)
        return len(taken.due) == free or len(taken.open_jobs) >= MOST_LOOKS // 2

    def _told(self, task: asyncio.Task[None]) -> None:
        self._sending.pop(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            logging.getLogger(logs.NAME).error("webhook_unforeseen", exc_info=task.exception())

    async def _tell(self, due: Due) -> None:
        """Make one try and note what became of it."""
        status, reason, pause, is_final = 0, "", None, False
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._post(due)
            status, pause = answer.status, answer.pause_seconds
            reason, is_final = _reason(status), status == GONE
        except TargetRefused as error:
            reason, is_final = str(error), True
        except TimeoutError:
            reason = f"no answer within {self._timeout:g} s"
        except (OSError, ValueError) as error:
            reason = _short(error)
        if 200 <= status < 300:
            await self._note(due, "delivered", status, "")
        elif is_final or due.tries >= self._settings.webhook_tries:
            await self._note(due, "failed", status, reason)
        else:
            await self._note(due, "retry", status, reason, max(self._delay(due.tries), pause or 0.0))

    async def _post(self, due: Due) -> Answer:
        try:
            keys = self._secrets.keys()
        except SettingsError as error:  # the secrets known before stay
            logs.write(logging.ERROR, "webhook_secrets", reason=error.message)
            keys = self._secrets.last_keys
        body = payload(due)
        headers = headers_of(f"msg_{due.job_id}", int(time.time()), body, keys)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return await post(Target.parse(due.url, self.rules), self.rules, headers, body, self._tls)

    async def _note(self, due: Due, outcome: Outcome, status: int, reason: str, delay_seconds: float = 0.0) -> None:
        self._metrics.webhooks.labels(outcome).inc()
        level = logging.ERROR if outcome == "failed" else logging.INFO
        logs.write(
            level,
            f"webhook_{outcome}",
            job_id=due.job_id,
            tries=due.tries,
            status=status or None,
            reason=reason or None,
            delay_seconds=round(delay_seconds, 1) or None,
        )
        try:
            await self._store.note(due, outcome, status=status, reason=reason, delay_seconds=delay_seconds)
        except RedisError as error:  # the lease ends, and it is told once more
            logs.write(logging.WARNING, "webhook_not_noted", job_id=due.job_id, reason=str(error))

    def _delay(self, tries: int) -> float:
        """Return the time until the next try, spread so that many do not come back at the same moment."""
        first = self._settings.webhook_retry_seconds.total_seconds()
        return min(first * 4.0 ** min(tries - 1, 20), LONGEST_DELAY_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311


def payload(due: Due) -> bytes:
    """Return the body of a webhook: little more than where to look. Every try sends the same bytes."""
    own = f"{due.prefix}/v1/jobs/{due.job_id}"
    error = None if due.error is None else {"code": due.error.code, "message": due.error.message}
    links = {"self": own, "result": f"{own}/result", "events": f"{own}/events"}
    data = {"id": due.job_id, "state": due.state.value, "error": error, "links": links}
    return to_json({"type": f"job.{due.state.value}", "timestamp": due.finished_at, "data": data})


def _reason(status: int) -> str:
    if 300 <= status < 400:
        return f"it answered {status}, and redirects are not followed"
    return "" if status < 300 else f"it answered {status}"


def _short(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"[:200]
    return (str(error) or type(error).__name__)[:200]
