"""Somebody who publishes pairs to a bucket, with care or without."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.s3_server import S3Server, s3_server
from builders.traffic import ROW, SEED
from uqueue_worker.artifacts import ArtifactPair, LocalFilesystemProvider
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.s3_versions import S3Versions
from uqueue_worker.models import load_interval_model

BUCKET, PREFIX, NAME = "models", "team/a", "mccp-uq"
SOURCE = f"s3://{BUCKET}/{PREFIX}"


@dataclass
class Publisher:
    """Publishes numbered pairs; q_hat is the number, so that a mixed pair shows in the answer.

    `answers` are what Traffic should get from each good version, `bad` the versions that should answer nothing.
    """

    server: S3Server
    folder: Path
    answers: dict[str, uqueue.IntervalPrediction] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    def good(self, number: int) -> tuple[str, float]:
        """Publish a pair; return its version and when its manifest was written (seconds of the monotonic clock)."""
        pair = self._pair(number)
        self.answers[pair.version] = load_interval_model(pair).predict(ROW, seed=SEED)
        return pair.version, self._publish(pair)

    def broken(self, number: int, *, model: bytes | None = None, state: bytes | None = None) -> None:
        """Publish, as a careless program might, a pair that no worker should serve."""
        pair = self._pair(number, model=model, state=state)
        self.bad.add(pair.version)
        self._publish(pair)

    def damaged(self, number: int, damage: Callable[[dict[str, Any]], None]) -> None:
        """Publish a good pair whose manifest is changed before "latest" names it."""
        pair = self._pair(number)
        self.bad.add(pair.version)
        versions = self._versions()
        manifest = json.loads(versions.upload(pair).to_json())
        damage(manifest)
        key = f"{PREFIX}/{NAME}/latest.json"
        self.server.client().put_object(Bucket=BUCKET, Key=key, Body=json.dumps(manifest).encode())

    def delete(self, manifest: dict[str, Any]) -> None:
        """Take away what a manifest names, as if its upload had never ended."""
        file = manifest["files"]["model.h5"]
        key = f"{PREFIX}/{NAME}/{manifest['version']}/model.h5"
        self.server.client().delete_object(Bucket=BUCKET, Key=key, VersionId=file["version_id"])

    def _pair(self, number: int, *, model: bytes | None = None, state: bytes | None = None) -> ArtifactPair:
        folder = self.folder / str(number)
        _, state_file = write_workspace(
            folder, model=mqnn_h5_bytes(seed=number, hidden=(8,)) if model is None else model, q_hat=float(number)
        )
        if state is not None:
            state_file.write_bytes(state)
        return LocalFilesystemProvider(folder).load()

    def _publish(self, pair: ArtifactPair) -> float:
        versions = self._versions()
        manifest = versions.upload(pair)
        versions.point("latest", manifest)
        return time.monotonic()

    def _versions(self) -> S3Versions:
        return S3Versions(Bucket(BUCKET, self.server.connection()), PREFIX, NAME)


@contextmanager
def publishing(folder: Path) -> Iterator[Publisher]:
    """Run a server with an empty bucket, and give who publishes there."""
    with s3_server(folder) as server:
        server.make_bucket(BUCKET)
        yield Publisher(server, folder / "pairs")
