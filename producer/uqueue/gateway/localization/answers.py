"""What a request is answered: model outputs with everything that belongs to this request."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from uqueue.gateway.localization.features import Features
from uqueue.gateway.localization.recorder import Recorded
from uqueue.gateway.localization.requests import Item
from uqueue.localization import Estimate, present
from uqueue_config.errors import ModelOutputInvalid
from uqueue_config.localization import Localization
from uqueue_config.settings import Settings


@dataclass(frozen=True)
class Found:
    """The outputs for one item, the version that gave them, and whether they came from the cache."""

    estimate: Estimate
    version: str
    is_hit: bool


def estimates(answers: Sequence[Localization]) -> list[tuple[Estimate, str]]:
    """Return the outputs of each row with the version that gave them. Raises ModelOutputInvalid, with the row."""
    found: list[tuple[Estimate, str]] = []
    for answer in answers:
        for row in range(len(answer)):
            try:
                found.append((_estimate(answer, row), answer.model_version))
            except ValueError as error:
                raise _invalid(answer.model_version, error, row=len(found)) from error
    return found


def shown(found: Found, settings: Settings) -> dict[str, Any]:
    """Return the members of an answer that follow from the outputs alone. Raises ModelOutputInvalid."""
    try:
        return present(
            found.estimate,
            ellipse_level=settings.localization_ellipse_level,
            ellipse_convention=settings.localization_ellipse_convention,
            confidence_radius_m=settings.localization_confidence_radius_m,
        )
    except ValueError as error:  # sigmas of thousands of kilometres
        raise _invalid(found.version, error) from error


def complete(members: dict[str, Any], found: Found, session_id: str, moment: datetime, ms: float) -> dict[str, Any]:
    """Return the whole answer, ready for JSON."""
    return {
        **members,
        "model_version": found.version,
        "inference_time_ms": ms,
        "timestamp": utc_text(moment),
        "session_id": session_id,
        "_cache_hit": found.is_hit,
    }


def record(
    answer: dict[str, Any], item: Item, features: Features, moment: datetime, default_frequency_mhz: float
) -> Recorded:
    """Return what listings keep of an answer."""
    ellipse = answer["ellipse"]
    return Recorded(
        id=str(uuid.uuid4()),
        session_id=answer["session_id"],
        timestamp=moment,
        latitude=answer["position"]["latitude"],
        longitude=answer["position"]["longitude"],
        uncertainty_m=answer["uncertainty_m"],
        confidence=answer["confidence"],
        source_frequency_mhz=item.frequency_mhz or default_frequency_mhz,
        snr_avg_db=features.snr_db,
        websdr_count=features.receivers,
        ellipse=(ellipse["semi_major_axis_m"], ellipse["semi_minor_axis_m"], ellipse["rotation_degrees"]),
    )


def new_session() -> str:
    """Return the id of a session that a client did not name."""
    return str(uuid.uuid4())


def utc_text(moment: datetime) -> str:
    """Return a moment as ISO 8601 with Z: browsers read a time without a zone as local."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _estimate(answer: Localization, row: int) -> Estimate:
    return Estimate(
        latitude=float(answer.latitude[row]),
        longitude=float(answer.longitude[row]),
        sigma_x=float(answer.sigma_x[row]),
        sigma_y=float(answer.sigma_y[row]),
        theta=float(answer.theta[row]),
        confidence=None if answer.confidence is None else float(answer.confidence[row]),
        uncertainty_source=answer.uncertainty_source,
    )


def _invalid(version: str, error: ValueError, **facts: Any) -> ModelOutputInvalid:
    return ModelOutputInvalid(job_id="", model="localization", version=version, reason=str(error), **facts)
