"""What jobs answer: of which kind a result is, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_config import classification, localization
from uqueue_config.classification import Classification
from uqueue_config.localization import Localization
from uqueue_config.prediction import IntervalPrediction

AnyAnswer = IntervalPrediction | Localization | Classification


def read_answer(message: Mapping[str, Any]) -> AnyAnswer:
    """Read a job's result, whichever kind it is. Raises InvalidMessage."""
    match message.get("kind"):
        case localization.KIND:
            return Localization.from_message(message)
        case classification.KIND:
            return Classification.from_message(message)
        case _:
            return IntervalPrediction.from_message(message)
