"""Models from a bucket or a registry: looked for in the background, checked, kept in the cache."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from uqueue_config.errors import (
    IncompleteArtifact,
    ModelError,
    ModelNotAvailable,
    SourceError,
    SourceUnreachable,
)
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.pair import MODEL_FILES, STATE_FILE, ArtifactPair
from uqueue_worker.artifacts.patience import Background, Backoff
from uqueue_worker.artifacts.provider import ModelProvider

#: How long a caller waits for a look, which then goes on without it.
PATIENCE_SECONDS: Final = 2.0
#: … and the first caller, who has nothing to go on with.
FIRST_SECONDS: Final = 60.0
DOWNLOAD_TRIES: Final = 2
_log = structlog.get_logger("uqueue.artifacts")


@dataclass(frozen=True)
class Release:
    """What a source names now.

    key       is another one whenever that is
    content   its `ArtifactPair.version`; "" where the source does not say
    checks    the sha256 of its checks; "" where it has none
    download  returns its files, checked against what was recorded about them
    memo      under which the cache remembers the content that the source does not say; "" for not at all
    """

    key: str
    content: str
    checks: str
    download: Callable[[], ArtifactPair]
    memo: str = ""


class RemoteProvider(ModelProvider):
    """What S3Provider and MLflowProvider have in common; they say what is named and how to get it.

    From the second call on `version` and `load` wait at most two seconds, and answer with what is complete by then.
    After a SourceError the source is left alone for a while that grows to half a minute, and the error is raised again
    meanwhile. A process that finds no source when it starts begins with what was last served from it on this machine,
    and says so in its log.
    """

    def __init__(self, source: str, name: str, cache: ArtifactCache) -> None:
        self.name = name
        self.source = source
        self._cache = cache
        self._background = Background(f"uqueue-source-{name}")
        self._lock = threading.Lock()
        self._resolving, self._fetching = Backoff(), Backoff()
        self._release: Release | None = None
        self._broken: tuple[str, ModelError] | None = None
        self._found: ArtifactPair | None = None
        self._found_key: str | None = None
        self._problem: ModelError | None = None
        self._fallback = False
        self._waited = False
        self._brought: dict[str, ArtifactPair | ModelError] = {}

    @abstractmethod
    def _resolve(self, known: Release | None) -> Release:
        """Return what the source names now, `known` itself where that did not change."""

    @abstractmethod
    def _resolve_content(self, version: str) -> Release:
        """Return the release whose files have this `ArtifactPair.version`. Raises NothingPublished."""

    def get_model_path(self) -> Path:
        return self._place() / (self._found.model_filename if self._found else MODEL_FILES[0])

    def get_state_path(self) -> Path:
        return self._place() / STATE_FILE

    def version(self) -> str:
        return self._newest(taking=False).version

    def load(self) -> ArtifactPair:
        pair = self._newest(taking=True)
        return pair if pair.is_calibrated else self._handed_out(pair)

    def _handed_out(self, pair: ArtifactPair) -> ArtifactPair:
        """Return a pair whose files may be large with its bytes, and keep none of them; the cache has them."""
        if not pair.model:
            cached = self._cache.get(self.name, pair.version)
            if cached is None:
                self._found_key = None
                return self._newest(taking=True)
            return cached
        with self._lock:
            if self._found is pair:
                self._found = pair.without_bytes()
        return pair

    def fetch(self, version: str) -> ArtifactPair:
        """Return the pair with this content, whatever the source names now; from the cache where it is there.

        Raises IncompleteArtifact while it is being downloaded, NothingPublished where the source has no such content,
        and what `load` raises.
        """
        brought = self._brought.pop(version, None) or self._cache.get(self.name, version)
        if brought is None:
            self._background.run(version, lambda: self._bring(version), PATIENCE_SECONDS)
            brought = self._brought.pop(version, None)
        if brought is None:
            raise IncompleteArtifact(file=f"{self.source}, version {version}", reason="it is still being downloaded")
        if isinstance(brought, ModelError):
            raise brought
        return brought

    def _place(self) -> Path:
        return self._cache.place(self.name, self._found.version if self._found else "unknown")

    def _newest(self, *, taking: bool) -> ArtifactPair:
        patience, self._waited = PATIENCE_SECONDS if self._waited else FIRST_SECONDS, True
        self._background.run("newest", self._look, patience)
        with self._lock:
            if self._found is None:
                still = f"nothing is complete after {patience:g} s"
                unknown = SourceUnreachable(source=self.source, reason=still, check="the connection")
                raise (self._problem or unknown).with_traceback(None)
            if self._problem is not None and not self._fallback:
                raise self._problem.with_traceback(None)  # or it would grow with every poll
            if taking:
                self._fallback = False
            return self._found

    def _look(self) -> None:
        if self._resolving.waiting:
            return
        try:
            self._release = self._resolve(self._release)
        except SourceError as error:
            self._resolving.failed()
            self._note(error)
        except ModelError as error:
            self._resolving.succeeded()
            self._note(error)
        except Exception as error:
            self._resolving.failed()
            self._note(self._unforeseen(error))
        else:
            self._resolving.succeeded()
            self._take(self._release)

    def _take(self, release: Release) -> None:
        """Get hold of what is named now, unless that is here, or was broken just before."""
        if release.key == self._found_key:
            self._note(None)
            return
        if self._broken is not None and self._broken[0] == release.key:
            if self._fetching.waiting:
                self._note(self._broken[1])
                return
        else:
            self._fetching.succeeded()
        try:
            pair = self._obtain(release)
        except Exception as error:
            problem = error if isinstance(error, ModelError) else self._unforeseen(error)
            self._broken = (release.key, problem)
            self._fetching.failed()
            self._note(problem)
            return
        self._broken = None
        with self._lock:
            self._found, self._found_key, self._problem, self._fallback = pair, release.key, None, False

    def _obtain(self, release: Release) -> ArtifactPair:
        cached = self._cached(release)
        if cached is not None:
            return cached
        with self._cache.turn(self.name, FIRST_SECONDS):
            cached = self._cached(release)  # another process may have fetched it meanwhile
            if cached is not None:
                return cached
            pair = self._download_patiently(release)
            try:
                self._cache.put(pair, serving=False)
                if release.memo:
                    self._cache.remember(self.name, release.memo, pair.version)
            except (ModelError, OSError) as error:
                _log.warning("cache_unusable", model=self.name, model_version=pair.version, reason=str(error))
            return pair

    def _cached(self, release: Release) -> ArtifactPair | None:
        """Return what is named from the cache; not where it is kept there with other checks."""
        pair = self._cache.get(self.name, self._content_of(release))
        kept = pair.checks_file.sha256 if pair and pair.checks_file else ""
        return pair if kept == release.checks else None

    def _content_of(self, release: Release) -> str:
        return release.content or (self._cache.remembered(self.name, release.memo) if release.memo else "")

    def _download_patiently(self, release: Release) -> ArtifactPair:
        for _ in range(DOWNLOAD_TRIES - 1):
            try:
                return release.download()
            except IncompleteArtifact as error:
                _log.warning("download_incomplete", model=self.name, reason=error.message)
        return release.download()

    def _bring(self, version: str) -> None:
        try:
            self._brought[version] = self._obtain(self._resolve_content(version))
        except ModelError as error:
            self._brought[version] = error
        except Exception as error:
            self._brought[version] = self._unforeseen(error)

    def _note(self, problem: ModelError | None) -> None:
        """Remember how the last look ended; begin with the cache where nothing else is there to begin with."""
        fallback = None
        if problem is not None and self._found is None and not isinstance(problem, ModelNotAvailable):
            fallback = self._cache.last_served(self.name)
        with self._lock:
            self._problem = problem
            if fallback is not None:
                self._found, self._fallback = fallback, True
        if fallback is not None and problem is not None:
            version, reason = fallback.version, problem.message
            _log.warning("artifacts_from_cache", model=self.name, model_version=version, reason=reason)

    def _unforeseen(self, error: Exception) -> ModelError:
        _log.exception("source_failed", model=self.name)
        return SourceError(source=self.source, reason=f"an unforeseen problem ({type(error).__name__}); see the log")
