"""What lists a published pair: written last, so that who reads it finds both files complete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, computed_field

from uqueue_config.errors import ArtifactMismatch, IncompleteArtifact, InvalidManifest
from uqueue_config.prediction import FileFingerprint
from uqueue_config.sources import is_label
from uqueue_worker.artifacts.local import MAX_MODEL_BYTES
from uqueue_worker.artifacts.pair import ArtifactPair, fingerprint, pair_version

MODEL_FILE: Final = "model.h5"
STATE_FILE: Final = "mccp_state.pkl"
MAX_MANIFEST_BYTES: Final = 64 * 1024


def _label(value: str) -> str:
    if not is_label(value):
        raise ValueError("expected letters, digits and ._-, at most 64")
    return value


class ManifestFile(BaseModel):
    """One file of the pair. `etag` and `version_id` are what the bucket called the object when it was put there."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=1, le=MAX_MODEL_BYTES)
    mtime_ns: int = Field(ge=0, lt=2**63)
    etag: str | None = Field(None, max_length=200)
    version_id: str | None = Field(None, max_length=1024)

    def check(self, data: bytes, *, file: str) -> FileFingerprint:
        """Return the fingerprint of these bytes. Raises ArtifactMismatch, or IncompleteArtifact where some are missing.

        `file` is what the error calls them.
        """
        if len(data) < self.size_bytes:
            raise IncompleteArtifact(file=file, reason=f"{len(data)} of {self.size_bytes} bytes came")
        found = fingerprint(data, self.mtime_ns)
        if found.sha256 != self.sha256:
            raise ArtifactMismatch(file=file, what="sha256", found=found.sha256, expected=self.sha256)
        return found


class ManifestFiles(BaseModel):
    """The two files, under the names they have in a bucket or registry."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)

    model: ManifestFile = Field(alias=MODEL_FILE)
    state: ManifestFile = Field(alias=STATE_FILE)


class Manifest(BaseModel):
    """A published version: what people call it, what its files hold, and when it was published."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)

    schema_number: Literal[1] = Field(1, alias="schema")
    model: str = Field(max_length=100)
    version: Annotated[str, AfterValidator(_label)]
    created_at: str = Field(max_length=40)
    files: ManifestFiles

    @computed_field  # type: ignore[prop-decorator]
    @property
    def content(self) -> str:
        """What `ArtifactPair.version` will be."""
        return pair_version(self.files.model.sha256, self.files.state.sha256)

    @classmethod
    def of(cls, pair: ArtifactPair, version: str | None = None) -> Self:
        """Return the manifest of a pair that is published now, under its content's name unless another is given."""
        return cls(
            model=pair.name,
            version=version or pair.version,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            files=ManifestFiles(
                model=ManifestFile(**vars(pair.model_file)), state=ManifestFile(**vars(pair.state_file))
            ),
        )

    @classmethod
    def parse(cls, data: bytes | str, *, file: str) -> Self:
        """Read a manifest that anybody may have written. Raises InvalidManifest; `file` is what it calls it."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise InvalidManifest(file=file, reason=f"it has more than {MAX_MANIFEST_BYTES} bytes")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            member = ".".join(str(part) for part in first["loc"]) or "all of it"
            raise InvalidManifest(file=file, reason=f"{member}: {first['msg'][:200]}") from None

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=2)

    def pair(self, name: str, model: bytes, state: bytes, *, place: str) -> ArtifactPair:
        """Return the pair made of these bytes. Raises what `ManifestFile.check` raises."""
        model_file = self.files.model.check(model, file=f"{place}/{MODEL_FILE}")
        state_file = self.files.state.check(state, file=f"{place}/{STATE_FILE}")
        return ArtifactPair(name, model, state, model_file, state_file)
