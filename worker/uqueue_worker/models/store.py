"""Where a process keeps its model: load, warm up, test, swap one reference, drop the old.

Whatever goes wrong with a new version, the one that serves keeps serving.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import structlog

from uqueue_config.errors import (
    IncompleteArtifact,
    InvalidCalibration,
    ModelError,
    ModelInvalid,
    ModelNotAvailable,
    ModelNotConfigured,
    ReloadFailed,
    SourceError,
    StaleCalibration,
)
from uqueue_config.ledger import Wish
from uqueue_config.localization import ModelCard
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, ModelProvider
from uqueue_worker.artifacts.patience import Backoff
from uqueue_worker.localization import Localizer, OnnxOptions
from uqueue_worker.models.engine import EngineChoice, ForwardMode
from uqueue_worker.models.interval_model import IntervalModel
from uqueue_worker.models.kinds import ONNX_ENGINES, AnyModel, load_model, number_of

_log = structlog.get_logger("uqueue.models")
Outcome = Literal["unchanged", "moved", "rejected", "missing"]


class ModelState(StrEnum):
    """How a process stands with its model."""

    NOT_CONFIGURED = "not_configured"
    NO_MODEL = "no_model"
    LOADING = "loading"
    READY = "ready"
    STALE = "stale"
    INVALID = "invalid"
    UNLOADED = "unloaded"


@dataclass(frozen=True)
class Candidate:
    """What `examine` found at the source. `version` is None when nothing readable was there.

    source_failed  the source did not answer as it should, so it is better left alone for a while
    number         of the registered version, where the source said that much
    """

    outcome: Outcome
    version: str | None
    reason: str | None = None
    source_failed: bool = False
    number: str | None = None


@dataclass(frozen=True)
class LoadOptions:
    """How artifacts become a model."""

    forward_mode: ForwardMode = "dropout"
    engine: EngineChoice = "auto"
    refuse_stale: bool = False
    nominal_coverage: float | None = None
    memory_limit_bytes: int | None = None
    onnx: OnnxOptions = field(default_factory=OnnxOptions)


class ModelStore:
    """Holds one track of the model called `name`. Safe to use from several threads; readers never wait for a load.

    track      what its pointer and acknowledgements are called; the model's own name unless given
    on_demand  nothing is loaded before the first job asks for it
    """

    def __init__(
        self,
        name: str,
        provider: ModelProvider | None,
        cache: ArtifactCache,
        options: LoadOptions,
        *,
        track: str | None = None,
        on_demand: bool = False,
    ) -> None:
        self.name = name
        self.track = track or name
        self.on_demand = on_demand
        self.jobs_done = 0
        self._provider = provider
        self._cache = cache
        self._options = options
        self._loading = threading.Lock()
        self._serving: tuple[AnyModel, ArtifactPair, float] | None = None
        self._failed: dict[str, Backoff | None] = {}
        self._followed = 0
        self._problem: ModelError | None = None if provider else ModelNotConfigured()
        self.artifacts_missing = False

    @property
    def model(self) -> AnyModel | None:
        return self._serving[0] if self._serving else None

    @property
    def moves_aside(self) -> bool:
        """Whether another version is loaded beside the jobs and not before the next one: it may take many seconds."""
        return self._options.engine in ONNX_ENGINES

    @property
    def version(self) -> str | None:
        return self._serving[1].version if self._serving else None

    @property
    def loaded_at(self) -> float | None:
        """When the model began to serve, in seconds since the epoch."""
        return self._serving[2] if self._serving else None

    @property
    def state(self) -> ModelState:
        if self._serving:
            return ModelState.STALE if self._serving[1].stale else ModelState.READY
        if self._loading.locked():
            return ModelState.LOADING
        if isinstance(self._problem, ModelNotConfigured):
            return ModelState.NOT_CONFIGURED
        if self.on_demand and self._problem is None:
            return ModelState.UNLOADED
        return ModelState.NO_MODEL if isinstance(self._problem, ModelNotAvailable) else ModelState.INVALID

    @property
    def reason(self) -> str | None:
        """Why nothing serves, or why the last version wanted was not taken over."""
        return self._problem.message if self._problem else None

    @property
    def loaded_bytes(self) -> int:
        """Size of the files that are held in memory."""
        serving = self._serving
        return serving[1].model_file.size_bytes if serving else 0

    def serve(self, wish: Wish | None) -> AnyModel:
        """Return the model to answer with, moving to the wanted version first if that is another one; see `follow`.

        A model that serves and `moves_aside` is moved by who calls `follow`. Raises ModelNotConfigured,
        ModelNotAvailable, ModelInvalid or StaleCalibration.
        """
        if self._serving is None or not self.moves_aside:
            self.follow(wish)
        serving = self._serving
        if serving is None and self.on_demand:
            self.start(wish)
            serving = self._serving
        if serving is None:
            raise self._problem or ModelNotAvailable(model=self.name, missing="the model")
        return serving[0]

    def unload(self) -> None:
        """Drop the model; the next job loads it again."""
        self._serving = None

    def names_now(self) -> str | None:
        """Return the version that the source names now, None where it does not say."""
        try:
            return self._provider.version() if self._provider else None
        except ModelError:
            return None

    def card(self) -> ModelCard | None:
        """Return what gateways are told of the model, None where nothing serves or it is none for localization."""
        model = self.model
        if not isinstance(model, Localizer) or self._provider is None:
            return None
        return model.card(*self._provider.placement(model.number))

    def load_version(self, version: str) -> tuple[AnyModel, ArtifactPair]:
        """Load a version beside the one that serves. Raises ModelError."""
        pair = self._fetch(version)
        return self._load(pair), pair

    def start(self, wish: Wish | None) -> None:
        """Load the first model: the wanted version if it can be had, otherwise what the source holds now."""
        self.follow(wish)
        if self._serving is None:
            self.examine()

    def follow(self, wish: Wish | None, *, wake: bool = True) -> bool:
        """Serve the wanted version, unless that is an old wish: a job may have been claimed before the last move.

        False if it could not be had, which is tried once and not for every job. Without `wake` a model on demand that
        is not loaded stays so.
        """
        serving = self._serving
        if serving is None and self.on_demand and not wake:
            return True
        version = serving[1].version if serving else None
        if wish is None or wish.version == version or wish.number < self._followed:
            self._followed = max(self._followed, wish.number if wish else 0)
            return True
        if self._left_alone(wish.version):
            return False
        with self._loading:
            if wish.version == self.version or wish.number < self._followed:  # another thread was quicker
                return True
            self._followed = wish.number
            try:
                pair = self._fetch(wish.version)
                self._serve(self._load(pair), pair)
            except ModelError as error:
                self._remember_failure(wish.version, error)
                return False
        return True

    def examine(self, number: int = 0) -> Candidate:
        """Look at the source; serve what is there if it is new, complete and calibrated.

        `number` is that of the look; where it moves this store, wishes of earlier looks are old.
        """
        if self._provider is None:
            return Candidate("missing", None, ModelNotConfigured().message)
        with self._loading:
            try:
                if self._provider.version() == self.version:
                    self._problem, self.artifacts_missing = None, False
                    return Candidate("unchanged", self.version)
                pair = self._provider.load()
            except ModelNotAvailable as error:
                self.artifacts_missing = self._serving is not None
                self._problem = None if self._serving else error.with_traceback(None)
                return Candidate("missing", None, error.message)
            except ModelError as error:
                self._problem = error.with_traceback(None)
                failed = isinstance(error, SourceError)
                return Candidate("rejected", None, error.message, source_failed=failed)
            return self._consider(pair, number)

    def _consider(self, pair: ArtifactPair, number: int) -> Candidate:
        self.artifacts_missing = False
        if pair.version == self.version:
            self._problem = None
            return Candidate("unchanged", pair.version)
        try:
            model = self._load(pair)
            if self._calibration_pending(pair):
                raise StaleCalibration(model=self.name)
            self._followed = max(self._followed, number)
            self._serve(model, pair)
        except ModelError as error:
            self._problem = error.with_traceback(None)
            return Candidate("rejected", pair.version, error.message, number=number_of(pair))
        return Candidate("moved", pair.version)

    def _calibration_pending(self, pair: ArtifactPair) -> bool:
        """Whether the model is new and its calibration is not: written before it, or the very file that already served.

        The second test catches a model copied with an old modification time.
        """
        if not pair.is_calibrated:
            return False
        if self._serving is None:
            return pair.stale and self._options.refuse_stale
        old = self._serving[1]
        model_is_new = pair.model_file.sha256 != old.model_file.sha256
        return pair.stale or (model_is_new and pair.state_file == old.state_file)

    def _fetch(self, version: str) -> ArtifactPair:
        pair = self._cache.get(self.name, version)
        if pair is None and self._provider is not None:
            pair = self._provider.fetch(version)
        if pair is None or pair.version != version:
            raise ReloadFailed(model=self.name, version=version, reason="it is neither at the source nor in the cache")
        return pair

    def _load(self, pair: ArtifactPair) -> AnyModel:
        options = self._options
        limit, size = options.memory_limit_bytes, pair.model_file.size_bytes
        if limit is not None and size > limit:
            raise ModelInvalid(
                file=pair.model_filename, reason=f"it has {size} bytes, memory_limit_bytes allows {limit}"
            )
        try:
            model = load_model(pair, forward_mode=options.forward_mode, engine=options.engine, onnx=options.onnx)
            if isinstance(model, IntervalModel):
                _check_coverage(model, options.nominal_coverage)
            return model
        except ModelError:
            raise
        except Exception as error:
            _log.exception("model_load_failed", model=self.name, version=pair.version)
            raise ModelInvalid(
                file=pair.model_filename, reason=f"it cannot be loaded ({type(error).__name__})"
            ) from error

    def _serve(self, model: AnyModel, pair: ArtifactPair) -> None:
        self._keep(pair)
        self._serving = (model, pair if pair.is_calibrated else pair.without_bytes(), time.time())
        self._failed.clear()
        self._problem = None
        _log.info("model_serving", model=self.name, model_version=pair.version, engine=model.engine_name)

    def _keep(self, pair: ArtifactPair) -> None:
        """Put the pair into the cache; one that cannot be written costs late joiners and not this process."""
        try:
            self._cache.put(pair)
        except (ModelError, OSError) as error:
            _log.warning("cache_unusable", model=self.name, model_version=pair.version, reason=str(error))

    def _left_alone(self, version: str) -> bool:
        """Whether this version failed before: for good, or a moment ago where its source may yet deliver it."""
        if version not in self._failed:
            return False
        pause = self._failed[version]
        return pause is None or pause.waiting

    def _remember_failure(self, version: str, error: ModelError) -> None:
        pause = None
        if isinstance(error, SourceError | IncompleteArtifact):
            pause = self._failed.get(version) or Backoff()
            pause.failed()
        self._failed[version] = pause
        self._problem = error.with_traceback(None)  # which would keep alive what the load had open
        _log.error("model_not_taken_over", model=self.name, model_version=version, reason=error.message)


def _check_coverage(model: IntervalModel, expected: float | None) -> None:
    alpha = model.calibration.alpha
    if expected is None or (alpha is not None and math.isclose(1 - alpha, expected, abs_tol=1e-9)):
        return
    found = "does not say which coverage it is for" if alpha is None else f"is for a coverage of {1 - alpha:g}"
    reason = f"{found}, nominal_coverage asks for {expected:g}"
    raise InvalidCalibration(file="mccp_state.pkl", field="alpha", reason=reason)
