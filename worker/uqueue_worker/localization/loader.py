"""A localization model straight from an MLflow registry, for programs that run one without a queue."""

from __future__ import annotations

import copy
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from uqueue_config.errors import ModelOutputInvalid, NothingPublished
from uqueue_config.localization import Localization
from uqueue_config.sources import MLflowSource, parse_mlflow
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.localizer_registry import LocalizerRegistry
from uqueue_worker.localization.localizer import Localizer, load_localizer
from uqueue_worker.localization.session import OnnxOptions


class OnnxModelLoader:
    """The version that an alias names, else the newest in a stage, else an explicit one; loaded by the constructor.

    alias    the stage in lower case unless given
    version  what is taken where neither alias nor stage names one
    options  providers, threads and rows at a time

    Any number of threads may predict; the session belongs to the process that made it. Raises ValueError where there is
    no such model, or no version for alias and stage; ModelInvalid and SourceError where it cannot be loaded.
    """

    def __init__(
        self,
        mlflow_uri: str,
        model_name: str = "localization_model",
        stage: str = "Production",
        *,
        alias: str | None = None,
        version: str | int | None = None,
        options: OnnxOptions | None = None,
    ) -> None:
        self._uri = mlflow_uri
        self._name = model_name
        self._wanted = [MLflowSource(model_name, "alias", alias or stage.lower())]
        self._wanted.append(MLflowSource(model_name, "stage", stage))
        if version is not None:
            self._wanted.append(parse_mlflow(f"models:/{model_name}/{version}"))
        self._options = options
        self._loading = threading.Lock()
        self._loaded: tuple[Localizer, dict[str, Any]] | None = None
        self._reloads = 0
        self._load()

    def predict(self, features: Any) -> list[dict[str, Any]]:
        """Return `{position {latitude, longitude}, uncertainty {sigma_x, sigma_y, theta}, confidence}` for every row.

        `features` is (batch, receivers, 128, 32), or one row without the batch axis; degrees and metres come out, and a
        confidence of None where the model states none. Raises ValueError for another shape or values that are not
        finite, RuntimeError where no model is loaded, InferenceFailed and ModelOutputInvalid.
        """
        model = self._model()[0]
        row = model.declaration.input_shape
        array = np.asarray(features)
        if array.ndim == len(row):
            array = array[None]
        if array.shape[1:] != row or array.ndim != len(row) + 1 or not len(array) or array.dtype.kind not in "fiu":
            expected = f"(batch, {', '.join(map(str, row))})"
            raise ValueError(f"expected features of shape {expected}, got {array.shape} of {array.dtype}")
        with np.errstate(over="ignore"):
            table = np.ascontiguousarray(array, np.float32).reshape(len(array), -1)
        if not np.isfinite(table).all():
            raise ValueError("expected finite features, got NaN or an infinity")
        found = model.predict_together(table, [len(table)])[0]
        if isinstance(found, ModelOutputInvalid):
            raise found
        return [_row(found, index) for index in range(len(found))]

    def get_metadata(self) -> dict[str, Any]:
        """Return a copy of what is known of the model and its version. Raises RuntimeError where none is loaded."""
        return {**copy.deepcopy(self._model()[1]), "reload_count": self._reloads}

    def reload(self) -> None:
        """Load what is named now, also where that has not changed. A failure leaves the old model and is raised."""
        self._load()
        self._reloads += 1

    def unload(self) -> None:
        """Drop the model."""
        self._loaded = None

    def is_ready(self) -> bool:
        return self._loaded is not None

    def _model(self) -> tuple[Localizer, dict[str, Any]]:
        if self._loaded is None:
            raise RuntimeError(f"model {self._name} is not loaded; call reload()")
        return self._loaded

    def _load(self) -> None:
        with self._loading, tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
            cache = ArtifactCache(Path(folder) / "cache")
            provider = LocalizerRegistry.among(self._wanted, self._name, tracking_url=self._uri, cache=cache)
            try:
                pair = provider.load()
            except NothingPublished as error:
                raise ValueError(f"model {self._name} at {self._uri}: there is no {error.missing}") from error
            model = load_localizer(pair, self._options)
            self._loaded = model, _metadata(model, *provider.placement(model.number))


def _metadata(model: Localizer, stage: str, alias: str | None) -> dict[str, Any]:
    session, about = model.session, model.about
    return {
        "model_name": model.identity.name,
        "version": model.version,
        "stage": stage,
        "alias": alias,
        "run_id": about.run_id,
        "created_at": about.created_at,
        "status": "READY",
        "input_name": session.input.name,
        "input_shape": list(session.input.shape),
        "output_names": [port.name for port in session.outputs],
        "output_shapes": [list(port.shape) for port in session.outputs],
    }


def _row(found: Localization, index: int) -> dict[str, Any]:
    return {
        "position": {"latitude": float(found.latitude[index]), "longitude": float(found.longitude[index])},
        "uncertainty": {
            "sigma_x": float(found.sigma_x[index]),
            "sigma_y": float(found.sigma_y[index]),
            "theta": float(found.theta[index]),
        },
        "confidence": None if found.confidence is None else float(found.confidence[index]),
    }
