"""Asking where the emitters of windows are: through the queue, or over HTTP. Answers have the members of `present`."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from uqueue.aio import AsyncClient, AsyncJob
from uqueue.cli.failures import UsageProblem
from uqueue.localization import Estimate, present
from uqueue.status import ModelStatus
from uqueue_config.connections import connect, translated
from uqueue_config.errors import InputError, JobFailed, ModelNotAvailable, ServiceUnreachable, UnknownModel, UqueueError
from uqueue_config.localization import Localization, ModelCard, cards_key
from uqueue_config.recipes import check_sample_rate, read_samples
from uqueue_config.settings import Settings

Samples = NDArray[np.complex64]
#: Of IQ in one HTTP request, well below what a gateway takes.
REQUEST_BYTES = 8 * 2**20
MOST_ITEMS = 100


def ask_queue(
    windows: Sequence[Samples], sample_rate_hz: float | None, *, model: str | None, timeout: float
) -> tuple[float, list[dict[str, Any]]]:
    """Return the model's sample rate and an answer for each window, from a worker that serves the model now.

    Raises InvalidSamples and what a job raises; ModelNotAvailable where no worker serves a localization model.
    """
    return asyncio.run(_ask_queue(windows, sample_rate_hz, model, timeout))


async def _ask_queue(
    windows: Sequence[Samples], sample_rate_hz: float | None, model: str | None, timeout: float
) -> tuple[float, list[dict[str, Any]]]:
    async with AsyncClient() as client:
        settings = client.settings
        card = _card(settings, await client.models(), model or settings.localization_model)
        declared = card.declaration
        check_sample_rate(sample_rate_hz, declared.sample_rate_hz)
        rows = np.stack([_features(settings, card, samples) for samples in windows])
        size = settings.max_onnx_batch
        tables = [rows[first : first + size] for first in range(0, len(rows), size)]
        jobs = await client.submit_many(tables, card.name, version=card.content, expires=timeout)
        found = [await _awaited(job, timeout) for job in jobs]
    answers = [_presented(settings, one, row) for one in found for row in range(len(one))]
    return declared.sample_rate_hz, answers


async def _awaited(job: AsyncJob, timeout: float) -> Localization:
    try:
        return Localization.from_message(await job.message(timeout))
    except InputError as error:  # refused by the worker: a failed job, no longer wrong usage
        raise JobFailed(error.message, job_id=job.id, reason=error.message) from error


def _features(settings: Settings, card: ModelCard, samples: Samples) -> NDArray[np.float32]:
    checked = read_samples(
        samples,
        receivers=card.declaration.receivers,
        min_samples=settings.localization_min_samples,
        max_samples=settings.localization_max_samples,
    )
    (made,) = card.declaration.recipe().features(checked).values()
    return made.ravel()


def _card(settings: Settings, models: Sequence[ModelStatus], wanted: str | None) -> ModelCard:
    """Return the card of the version that processes serve now. The wanted one first."""
    cards = _cards(settings, [model.name for model in models])
    if wanted is not None and wanted not in cards:
        raise UnknownModel(model=wanted, served=", ".join(sorted(cards)) or "no localization model")
    if wanted is None and len(cards) > 1:
        raise UsageProblem(f"--model: there are several localization models, name one of {', '.join(sorted(cards))}")
    for model in models:
        if model.name in cards and wanted in (None, model.name):
            serving = {process.version for process in model.processes}
            found = [card for card in cards[model.name] if card.content in serving]
            if found:
                return next((card for card in found if card.content == model.wanted_version), found[-1])
    raise ModelNotAvailable("No worker serves a localization model. Start one; `uqueue models` shows who serves what.")


def _cards(settings: Settings, names: Sequence[str]) -> dict[str, list[ModelCard]]:
    """Return the cards of each model that has some."""
    with translated(settings.result_store), connect(settings.result_store) as connection:
        found = {name: cast(Any, connection.hvals(cards_key(name))) for name in names}
    return {name: [ModelCard.model_validate_json(text) for text in texts] for name, texts in found.items() if texts}


def _presented(settings: Settings, found: Localization, row: int) -> dict[str, Any]:
    estimate = Estimate(
        latitude=float(found.latitude[row]),
        longitude=float(found.longitude[row]),
        sigma_x=float(found.sigma_x[row]),
        sigma_y=float(found.sigma_y[row]),
        theta=float(found.theta[row]),
        confidence=None if found.confidence is None else float(found.confidence[row]),
        uncertainty_source=found.uncertainty_source,
    )
    answer = present(
        estimate,
        ellipse_level=settings.localization_ellipse_level,
        ellipse_convention=settings.localization_ellipse_convention,
        confidence_radius_m=settings.localization_confidence_radius_m,
    )
    return {**answer, "model_version": found.model_version}


def ask_gateway(
    url: str,
    windows: Sequence[Samples],
    sample_rate_hz: float | None,
    frequencies_hz: Sequence[float | None],
    *,
    timeout: float,
    key: str | None = None,
) -> list[dict[str, Any]]:
    """Return an answer for each window from the gateway at `url`; `key` is an API key where it wants one.

    Raises InputError for what the gateway refuses, JobFailed for what it cannot answer, ServiceUnreachable.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise UsageProblem(f"--url: expected http://host:port of a gateway, got {url!r}")
    items = [
        {
            "iq_base64": base64.b64encode(samples.astype("<c8").tobytes()).decode(),
            "shape": list(samples.shape),
            **({} if sample_rate_hz is None else {"sample_rate_hz": sample_rate_hz}),
            **({} if frequency is None else {"frequency_mhz": frequency / 1e6}),
        }
        for samples, frequency in zip(windows, frequencies_hz, strict=True)
    ]
    answers: list[dict[str, Any]] = []
    for batch in _batches(items):
        body = {"predictions": batch}
        answers += post(f"{url.rstrip('/')}/predict/batch", body, timeout=timeout, key=key)["predictions"]
    return answers


def _batches(items: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    largest = max(len(item["iq_base64"]) for item in items)
    size = max(1, min(MOST_ITEMS, REQUEST_BYTES // largest))
    for first in range(0, len(items), size):
        yield items[first : first + size]


def post(url: str, body: Any, *, timeout: float, key: str | None = None) -> dict[str, Any]:
    """Send JSON and return the JSON that comes back. Raises InputError, JobFailed, ServiceUnreachable."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - checked to be http(s)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise _refusal(error) from None
    except (OSError, ValueError) as error:  # ValueError: what http.client makes of no HTTP
        reason = getattr(error, "reason", None) or error
        raise ServiceUnreachable(
            f"The gateway at {url} does not answer: {reason}. Check that it runs and --url names it."
        ) from error
    try:
        return cast(dict[str, Any], json.loads(text))
    except ValueError:
        raise ServiceUnreachable(f"What answers at {url} is no gateway: it sent no JSON.") from None


def _refusal(error: urllib.error.HTTPError) -> UqueueError:
    status = error.code
    try:
        said = json.loads(error.read(65536)).get("detail")
    except (ValueError, AttributeError, OSError):
        said = None
    detail = said if isinstance(said, str) else f"status {status}, {HTTPStatus(status).phrase}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return InputError(f"The gateway wants an API key: {detail} See --key-file.")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY):
        return InputError(f"The gateway refused it: {detail}")
    return JobFailed(f"The gateway could not answer: {detail}", job_id="", reason=detail)
