"""Which model of the catalog answers localization requests."""

from __future__ import annotations

import logging

from uqueue.gateway import logs
from uqueue_config.catalog import Catalog
from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings


def localization_model(settings: Settings) -> str | None:
    """Return UQUEUE_LOCALIZATION_MODEL, else the only model of the catalog with the engine onnx, else None.

    A catalog that cannot be read here is the workers' business: it is logged and names none.
    """
    if settings.localization_model:
        return settings.localization_model
    try:
        models = Catalog.load(settings).models.values()
    except SettingsError as error:
        logs.write(logging.WARNING, "catalog", reason=error.message)
        return None
    found = [spec.name for spec in models if str(spec.engine) == "onnx"]
    return found[0] if len(found) == 1 else None
