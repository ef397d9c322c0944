"""The version that an evaluation asks, by content: aliases may move while it goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from uqueue_config.learning.model_manifest import MANIFEST_FILE, ModelManifest
from uqueue_worker.artifacts.pair import pair_version
from uqueue_worker.learning.errors import ModelIntegrity
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.versions import ModelFolder


@dataclass(frozen=True)
class PinnedModel:
    """A version of a classifier that workers serve from the same folder.

    content  the 16 hexadecimal digits by which jobs ask for it: what `uqueue models` shows
    """

    manifest: ModelManifest
    content: str

    @classmethod
    def find(cls, root: Path, name: str, tag: str | None, default: str | None = None) -> Self:
        """Return what a version or an alias names now; None is the default.

        Raises ModelNotFound, ModelVersionNotFound and ModelIntegrity.
        """
        folder = ModelFolder(root, name)
        manifest = folder.manifest(folder.resolve(tag, default))
        path = folder.path / manifest.version / MANIFEST_FILE
        data = path.read_bytes()
        if ModelManifest.read(data) != manifest:
            raise ModelIntegrity(file=str(path), reason="it changed while it was read")
        return cls(manifest, pair_version(manifest.sha256, hashlib.sha256(data).hexdigest()))

    def key(self, columns: Float32Array, link: int = 0) -> str:
        """Return the idempotency key of a job for these columns: SHA-256 over everything that its answer depends on.

        `link` counts the jobs of this chunk that an earlier evaluation gave up, or whose results have lapsed.
        """
        said = {
            "model": self.manifest.model,
            "version": self.content,
            "feature_spec": self._feature_spec,
            "uncertainty": self.manifest.uncertainty.text,
            "rows": len(columns),
            "chunk": hashlib.sha256(columns.tobytes()).hexdigest(),
            "link": link,
        }
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return "alm-" + hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _feature_spec(self) -> str:
        return self.manifest.feature_spec_fingerprint
