"""The two files that make one model, read together.

An interval model is a network and its calibration state; a localization model is an ONNX file and its declaration, a
classifier an ONNX file and its manifest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final

from uqueue_config.prediction import FileFingerprint, ModelIdentity

VERSION_LENGTH = 16
#: What the model file may be called: one that Keras wrote, or one that PyTorch did.
MODEL_FILES: Final = ("model.h5", "model.pt")
STATE_FILE: Final = "mccp_state.pkl"
#: A localization model's file, and what is said of it; see `declaration_file`.
ONNX_FILE: Final = "model.onnx"
DECLARATION_FILE: Final = "localization.json"
#: … and of a classifier's.
MANIFEST_FILE: Final = "manifest.json"


@dataclass(frozen=True)
class ArtifactPair:
    """A model file and the calibration state that belongs to it, as bytes, with what was seen of their files.

    The bytes are unchecked: `read_model_file`, `read_calibration_state` and `read_checks` decide whether they may be
    used. For a localization model `state` is its declaration, for a classifier its manifest.

    model_filename  what the model file is called, one of MODEL_FILES or ONNX_FILE
    checks          what a candidate must stand up to before it serves, and that file's fingerprint; None where the
                    source holds no checks
    is_classifier   whether it is one of a classifier
    """

    name: str
    model: bytes = field(repr=False)
    state: bytes = field(repr=False)
    model_file: FileFingerprint
    state_file: FileFingerprint
    model_filename: str = MODEL_FILES[0]
    checks: bytes | None = field(default=None, repr=False)
    checks_file: FileFingerprint | None = None
    is_classifier: bool = False

    @property
    def version(self) -> str:
        """16 hex characters that name model and calibration; a copy of the same two files has the same version.

        Checks are evidence about them and no part of the name.
        """
        return pair_version(self.model_file.sha256, self.state_file.sha256)

    @property
    def stale(self) -> bool:
        """True where the state was written before the model, so a calibration of this model is still to come."""
        return self.is_calibrated and self.state_file.mtime_ns < self.model_file.mtime_ns

    @property
    def is_calibrated(self) -> bool:
        """Whether the state is a calibration; those of ONNX files are not."""
        return self.model_filename != ONNX_FILE

    @property
    def state_filename(self) -> str:
        if self.is_classifier:
            return MANIFEST_FILE
        return STATE_FILE if self.is_calibrated else DECLARATION_FILE

    def identity(self, engine: str, *, keras_version: str | None = None) -> ModelIdentity:
        """Return what answers say of the model that these files make, evaluated by that engine."""
        return ModelIdentity(
            name=self.name,
            version=self.version,
            sha256=self.model_file.sha256,
            state_sha256=self.state_file.sha256,
            model_file=self.model_file,
            state_file=self.state_file,
            keras_version=keras_version,
            engine=engine,
        )

    def without_bytes(self) -> ArtifactPair:
        """Return what is known of the files without what they hold, which may be hundreds of megabytes."""
        return replace(self, model=b"", state=b"", checks=None)


def pair_version(model_sha256: str, state_sha256: str) -> str:
    """Return the first 16 hex characters of the sha256 over both hashes, written one after the other as hex."""
    return hashlib.sha256((model_sha256 + state_sha256).encode("ascii")).hexdigest()[:VERSION_LENGTH]


def fingerprint(data: bytes, mtime_ns: int) -> FileFingerprint:
    """Return the fingerprint of a file with this content, last written at `mtime_ns`."""
    return FileFingerprint(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), mtime_ns=mtime_ns)
