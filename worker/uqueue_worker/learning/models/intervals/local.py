"""Interval models evaluated in this process, by the worker's own loaders and engines."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uqueue_config.catalog import ModelSpec
from uqueue_config.errors import (
    InvalidFeatures,
    ModelError,
    ModelNotAvailable,
    ModelNotConfigured,
    SourceError,
    UqueueError,
)
from uqueue_config.names import DEFAULT_MODEL
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.artifacts.local import LocalFilesystemProvider
from uqueue_worker.artifacts.pair import MODEL_FILES, STATE_FILE
from uqueue_worker.artifacts.provider import ModelProvider
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    FeatureMismatch,
    ModelIntegrity,
    ModelNotFound,
    ModelVersionNotFound,
)
from uqueue_worker.learning.models.intervals.place import Chunk, PinnedIntervals
from uqueue_worker.learning.models.queue.wave import Deadline

if TYPE_CHECKING:
    from uqueue_worker.models import IntervalModel

ForwardMode = Literal["dropout", "deterministic"]


class LocalIntervals:
    """The model `name` in a workspace (`models/<name>/model.h5`, `state/<name>/mccp_state.pkl`), in a folder that holds
    both files, or wherever a provider of artifacts reads it.

    forward_mode, target_scale, target_offset, target_unit  as the service has them, so that both answer the same

    The calibration is read as data and the model file checked, as a worker does. Nothing is read before the first call.
    """

    kind = "local"

    def __init__(
        self,
        source: str | Path | ModelProvider,
        name: str = DEFAULT_MODEL,
        *,
        forward_mode: ForwardMode = "dropout",
        target_scale: Sequence[float] = (),
        target_offset: Sequence[float] = (),
        target_unit: str | None = None,
    ) -> None:
        self._providers: tuple[ModelProvider, ...] = (
            (source,)
            if isinstance(source, ModelProvider)
            else (PairFolder(Path(source), name), LocalFilesystemProvider(source, name))
        )
        self._spec = ModelSpec(
            name=name,
            source=None,
            forward_mode=forward_mode,
            engine="auto",
            target_scale=tuple(target_scale),
            target_offset=tuple(target_offset),
            target_unit=target_unit,
        )
        self._loaded: IntervalModel | None = None
        self._loading = threading.Lock()

    def pin(self, tag: str | None, deadline: Deadline) -> PinnedIntervals:
        version = self.list_versions()[0]
        if tag not in (None, "stable", version):
            raise ModelVersionNotFound(model=self._spec.name, version=str(tag)[:200])
        return PinnedIntervals(self._spec.name, version)

    def answers(
        self, pinned: PinnedIntervals, chunks: Iterable[Chunk], deadline: Deadline, in_flight: int
    ) -> Generator[IntervalPrediction | UqueueError]:
        """Yield the answers; the deadline is for others, and nothing is in flight here."""
        from uqueue_worker.units import in_target_units

        model = self._model(pinned.version)
        for chunk in chunks:
            try:
                yield in_target_units(model.predict(chunk.columns, seed=chunk.seed), self._spec)
            except InvalidFeatures as error:
                raise FeatureMismatch(reason=error.message.rstrip(".")) from error

    def list_versions(self) -> list[str]:
        """Return the version of the files as they are now: a workspace holds one."""
        try:
            return [self._provider().version()]
        except ModelError as error:
            raise self._as_learning(error) from error

    def health(self) -> dict[str, Any]:
        """Return whether the model loads: status "ok", or "failing" with the reason."""
        try:
            version = self.list_versions()[0]
            model = self._model(version)
        except UqueueError as error:
            return {"status": "failing", "error_code": error.code, "reason": str(error)}
        return {"status": "ok", "model": f"{self._spec.name}@{version}", "engine": model.engine_name}

    def _provider(self) -> ModelProvider:
        first = self._providers[0]
        return self._providers[-1] if isinstance(first, PairFolder) and not first.get_state_path().exists() else first

    def _model(self, version: str) -> IntervalModel:
        from uqueue_worker.models import load_interval_model

        with self._loading:
            if self._loaded is None or self._loaded.identity.version != version:
                try:
                    pair = self._provider().fetch(version)
                    if pair is None:
                        raise ModelVersionNotFound(model=self._spec.name, version=version)
                    self._loaded = load_interval_model(pair, forward_mode=self._spec.forward_mode)
                except ModelError as error:
                    raise self._as_learning(error) from error
            return self._loaded

    def _as_learning(self, error: ModelError) -> UqueueError:
        if isinstance(error, ModelNotAvailable | ModelNotConfigured):
            return ModelNotFound(model=f"{self._spec.name}: {error.message.rstrip('.')}")
        if isinstance(error, SourceError):
            return ActiveLearningError(reason=error.message.rstrip("."))
        return ModelIntegrity(file=self._spec.name, reason=error.message.rstrip("."))


class PairFolder(LocalFilesystemProvider):
    """Reads a folder with model.h5 (or model.pt) and mccp_state.pkl."""

    def __init__(self, folder: Path, name: str = DEFAULT_MODEL) -> None:
        super().__init__(folder, name)
        self._folder = folder

    def get_state_path(self) -> Path:
        return self._folder / STATE_FILE

    def get_checks_path(self) -> Path:
        return self._folder / "mccp_checks.json"

    def _model_paths(self) -> list[Path]:
        return [self._folder / file for file in MODEL_FILES]
