"""All models of one process: which of them, and which of its versions, answers a job."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog

from uqueue_config.catalog import Catalog, ModelSpec
from uqueue_config.classification import ENGINE as CLASSIFIER
from uqueue_config.errors import ModelError, UnknownModel, VersionNotServed
from uqueue_config.ledger import Wish
from uqueue_config.localization import ModelCard
from uqueue_config.messages import PredictRequest
from uqueue_config.names import canary_of, shadow_of
from uqueue_worker.artifacts.patience import Background
from uqueue_worker.localization import Localizer
from uqueue_worker.models.interval_model import IntervalModel
from uqueue_worker.models.kinds import AnyModel
from uqueue_worker.models.store import ModelStore

STABLE, CANARY = "stable", "canary"
#: How many versions are kept loaded for jobs that ask for them by name.
PINNED_VERSIONS = 5
#: … and how many are remembered that cannot be had.
REFUSED_VERSIONS = 100
#: An alias of the source that a job names is looked up again after this time, and so is what could not be had.
ALIAS_SECONDS = 10.0
#: How long a job waits for the source to say what it calls so.
LOOK_UP_SECONDS = 10.0
_CONTENT = re.compile(r"[0-9a-f]{16}")
Wanted = Mapping[str, Wish | None]
#: Makes the store of one track: `(spec, track, source) -> store`.
OpenStore = Callable[[ModelSpec, str, str | None], ModelStore]
_log = structlog.get_logger("uqueue.models")


class Served(NamedTuple):
    """What answers one job. `shadow` is what answers it as well, for comparison."""

    model: AnyModel
    spec: ModelSpec
    shadow: IntervalModel | None = None


@dataclass
class _Pinned:
    """A version that jobs ask for by name, or why it cannot be had."""

    model: AnyModel | None
    size_bytes: int
    problem: str
    look_again_at: float
    card: ModelCard | None = None


class ModelCatalog:
    """Holds a store for every track. Safe to use from several threads."""

    def __init__(self, catalog: Catalog, open_store: OpenStore, memory_bytes: int | None = None) -> None:
        self._specs = catalog.models
        self._open_store = open_store
        self._memory_bytes = memory_bytes
        self.stores = {
            track: open_store(spec, track, source) for spec in self._specs.values() for track, source in spec.tracks
        }
        self._used: OrderedDict[str, None] = OrderedDict()
        self._pinned: OrderedDict[tuple[str, str], _Pinned] = OrderedDict()
        self._looked_up: dict[tuple[str, str], _Pinned] = {}
        self._background = Background("uqueue-versions")
        self._changing = threading.RLock()

    def store(self, track: str) -> ModelStore:
        """Return the store of a track. Raises UnknownModel."""
        if track not in self.stores:
            raise UnknownModel(model=track, served=", ".join(self.stores))
        return self.stores[track]

    def serve(self, request: PredictRequest, job_id: str, wanted: Wanted) -> Served:
        """Return what answers this job. `wanted` holds the version that every process should serve, by track.

        Raises UnknownModel, VersionNotServed, and what `ModelStore.serve` raises.
        """
        spec = self._specs.get(request.model)
        if spec is None:
            raise UnknownModel(model=request.model, served=", ".join(self._specs))
        if request.version is not None and request.version != STABLE:
            return self._serve_version(spec, request.version, wanted)
        if spec.canary_share and request.version is None and spec.is_canary(request.sticky_key or job_id):
            canary = self._serve_beside(canary_of(spec.name), wanted)
            if canary is not None:
                return Served(canary, spec)
        model = self._serve_track(spec.name, wanted)
        if spec.shadow_source is None:
            return Served(model, spec)
        shadow = self._serve_beside(shadow_of(spec.name), wanted)
        return Served(model, spec, shadow if isinstance(shadow, IntervalModel) else None)

    def _serve_track(self, track: str, wanted: Wanted) -> AnyModel:
        store = self.stores[track]
        model = store.serve(wanted.get(track))
        store.jobs_done += 1
        if store.on_demand:
            self._used[track] = None
            self._used.move_to_end(track)
            self.make_room(keep=track)
        return model

    def _serve_beside(self, track: str, wanted: Wanted) -> AnyModel | None:
        """Return the model of a canary or shadow; without one the stable version answers alone."""
        try:
            return self._serve_track(track, wanted)
        except ModelError as error:
            _log.debug("track_not_served", track=track, reason=error.message)
            return None

    def _serve_version(self, spec: ModelSpec, version: str, wanted: Wanted) -> Served:
        if version == CANARY:
            if spec.canary_source is None:
                raise VersionNotServed(model=spec.name, version=version, reason="the model has no canary")
            return Served(self._serve_track(canary_of(spec.name), wanted), spec)
        for track, source in spec.tracks:
            model = self.stores[track].model
            if model is None:
                continue
            is_number = model.number == version and _registered(source) == _registered(spec.source)
            if is_number or model.identity.version == version:
                self.stores[track].jobs_done += 1
                self._pinned.pop((spec.name, version), None)  # it was asked for before it came to serve
                return Served(model, spec)
        self.stores[spec.name].jobs_done += 1
        return Served(self._pinned_version(spec, version), spec)

    def cards(self) -> Iterator[ModelCard]:
        """Yield the card of every localization model that is loaded here, pinned versions included."""
        for store in self.stores.values():
            card = store.card()
            if card is not None:
                yield card
        for pinned in list(self._pinned.values()):
            if pinned.card is not None:
                yield pinned.card

    def _pinned_version(self, spec: ModelSpec, version: str) -> AnyModel:
        with self._changing:
            key = (spec.name, version)
            found = self._pinned.get(key)
            if found is None or time.monotonic() > found.look_again_at:
                found = self._pinned[key] = self._look_up(spec, version, found)
            self._pinned.move_to_end(key)
            self._forget_pinned()
            self.make_room(keep=version)
        if found.model is None:
            raise VersionNotServed(model=spec.name, version=version, reason=found.problem)
        return found.model

    def _forget_pinned(self) -> None:
        """Keep the versions that were asked for last: those that are loaded, and apart from them those that cannot be
        had, lest names that are none push out what others use.
        """
        for is_loaded, most in ((True, PINNED_VERSIONS), (False, REFUSED_VERSIONS)):
            keys = [key for key, one in self._pinned.items() if (one.model is not None) is is_loaded]
            for key in keys[: max(0, len(keys) - most)]:
                del self._pinned[key]

    def _look_up(self, spec: ModelSpec, version: str, known: _Pinned | None) -> _Pinned:
        """Load a version by its content, or by the name that the source has for it."""
        try:
            if _CONTENT.fullmatch(version):
                model, pair = self.stores[spec.name].load_version(version)
                card = model.card() if isinstance(model, Localizer) else None
                return _Pinned(model, pair.model_file.size_bytes, "", math.inf, card)
            return self._look_up_name(spec, version, known)
        except ModelError as error:
            reason = str(error.facts.get("reason", "")) if isinstance(error, VersionNotServed) else ""
            return _Pinned(None, 0, reason or error.message.rstrip("."), time.monotonic() + ALIAS_SECONDS)

    def _look_up_name(self, spec: ModelSpec, name: str, known: _Pinned | None) -> _Pinned:
        """Ask the source what it calls so, in the background: other jobs must not wait for one that is far away."""
        source, key = _named_source(spec, name), (spec.name, name)

        def look() -> None:
            store = self._open_store(spec, spec.name, source)
            # What an alias names may change, what a number names does not.
            look_again_at = math.inf if _is_number(source) else time.monotonic() + ALIAS_SECONDS
            if known is not None and known.model is not None and store.names_now() == known.model.identity.version:
                self._looked_up[key] = replace(known, look_again_at=look_again_at)
                return
            store.start(None)
            if store.model is None:
                look_again_at = time.monotonic() + ALIAS_SECONDS
            reason = (store.reason or "").rstrip(".")
            self._looked_up[key] = _Pinned(store.model, store.loaded_bytes, reason, look_again_at, store.card())

        self._background.run(key, look, LOOK_UP_SECONDS)
        found = self._looked_up.pop(key, None)
        if found is not None:
            return found
        soon = time.monotonic() + 1.0
        if known is not None and known.model is not None:
            return replace(known, look_again_at=soon)
        return _Pinned(None, 0, "it is still being looked up; ask again in a moment", soon)

    def make_room(self, keep: str = "") -> None:
        """Unload what was not used for longest until all files that are loaded fit UQUEUE_MODEL_MEMORY_BYTES.

        Models that are loaded eagerly stay, and so does `keep`, a track or a pinned version.
        """
        if self._memory_bytes is None:
            return
        with self._changing:
            for key in list(self._pinned):
                if self._loaded_bytes() > self._memory_bytes and key[1] != keep:
                    del self._pinned[key]
            for track in list(self._used):
                if self._loaded_bytes() > self._memory_bytes and track != keep:
                    self.stores[track].unload()
                    del self._used[track]
                    _log.info("model_unloaded", track=track)

    def _loaded_bytes(self) -> int:
        pinned = sum(one.size_bytes for one in self._pinned.values())
        return pinned + sum(store.loaded_bytes for store in self.stores.values())


def _registered(source: str | None) -> str:
    """Return the model that a source names in a registry, or the folder of versions; other sources as they are."""
    if not (source or "").startswith("models:/"):
        return (source or "").partition("?")[0]
    return re.split("[@/]", (source or "").removeprefix("models:/"), maxsplit=1)[0]


def _is_number(source: str) -> bool:
    return source.startswith("models:/") and source.rpartition("/")[2].isdigit()


def _named_source(spec: ModelSpec, version: str) -> str:
    """Return the source of the version that has this name there. Raises VersionNotServed."""
    source = spec.source or ""
    if source.startswith("s3://") or spec.engine == CLASSIFIER:
        return f"{source.partition('?')[0]}?version={version}"
    if source.startswith("models:/"):
        registered = _registered(source)
        return f"models:/{registered}{version}" if version.startswith("@") else f"models:/{registered}/{version}"
    reason = "versions in a folder have no names but the 16 characters that `uqueue models` shows"
    raise VersionNotServed(model=spec.name, version=version, reason=reason)
