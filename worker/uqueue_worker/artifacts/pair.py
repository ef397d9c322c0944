"""The two files that make one model, read together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from uqueue_config.prediction import FileFingerprint

VERSION_LENGTH = 16
#: What the model file may be called: one that Keras wrote, or one that PyTorch did.
MODEL_FILES: Final = ("model.h5", "model.pt")


@dataclass(frozen=True)
class ArtifactPair:
    """A model file and the calibration state that belongs to it, as bytes, with what was seen of their files.

    The bytes are unchecked: `read_model_file`, `read_calibration_state` and `read_checks` decide whether they may be
    used.

    model_filename  what the model file is called, one of MODEL_FILES
    checks          what a candidate must stand up to before it serves, and that file's fingerprint; None where the
                    source holds no checks
    """

    name: str
    model: bytes = field(repr=False)
    state: bytes = field(repr=False)
    model_file: FileFingerprint
    state_file: FileFingerprint
    model_filename: str = MODEL_FILES[0]
    checks: bytes | None = field(default=None, repr=False)
    checks_file: FileFingerprint | None = None

    @property
    def version(self) -> str:
        """16 hex characters that name model and calibration; a copy of the same two files has the same version.

        Checks are evidence about them and no part of the name.
        """
        return pair_version(self.model_file.sha256, self.state_file.sha256)

    @property
    def stale(self) -> bool:
        """True where the state was written before the model, so a calibration of this model is still to come."""
        return self.state_file.mtime_ns < self.model_file.mtime_ns


def pair_version(model_sha256: str, state_sha256: str) -> str:
    """Return the first 16 hex characters of the sha256 over both hashes, written one after the other as hex."""
    return hashlib.sha256((model_sha256 + state_sha256).encode("ascii")).hexdigest()[:VERSION_LENGTH]


def fingerprint(data: bytes, mtime_ns: int) -> FileFingerprint:
    """Return the fingerprint of a file with this content, last written at `mtime_ns`."""
    return FileFingerprint(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), mtime_ns=mtime_ns)
