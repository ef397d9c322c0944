"""What lists a published pair: written last, so that who reads it finds both files complete."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from uqueue_config.errors import ArtifactMismatch, IncompleteArtifact, InvalidManifest
from uqueue_config.prediction import FileFingerprint
from uqueue_config.sources import is_label
from uqueue_worker.artifacts.local import MAX_CHECKS_BYTES, MAX_MODEL_BYTES
from uqueue_worker.artifacts.pair import (
    MODEL_FILES,
    STATE_FILE,
    VERSION_LENGTH,
    ArtifactPair,
    fingerprint,
    pair_version,
)
from uqueue_worker.artifacts.safe_pickle import MAX_STATE_BYTES

CHECKS_FILE: Final = "checks.json"
MAX_MANIFEST_BYTES: Final = 64 * 1024
LIMIT_BYTES: Final = {
    **dict.fromkeys(MODEL_FILES, MAX_MODEL_BYTES),
    STATE_FILE: MAX_STATE_BYTES,
    CHECKS_FILE: MAX_CHECKS_BYTES,
}


def _label(value: str) -> str:
    if not is_label(value):
        raise ValueError("expected letters, digits and ._-, at most 64")
    return value


class ManifestFile(BaseModel):
    """One file of the pair. `etag` and `version_id` are what the bucket called the object when it was put there.

    `held_by` is the number of the registered version that has the file among its artifacts, where that is another one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=1, le=MAX_MODEL_BYTES)
    mtime_ns: int = Field(ge=0, lt=2**63)
    etag: str | None = Field(None, max_length=200)
    version_id: str | None = Field(None, max_length=1024)
    held_by: str | None = Field(None, pattern=r"^[0-9]{1,18}$")

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
    """The files of a version, by their names in a bucket or registry: one model file, the state, perhaps checks."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)

    keras: ManifestFile | None = Field(None, alias=MODEL_FILES[0])
    torch: ManifestFile | None = Field(None, alias=MODEL_FILES[1])
    state: ManifestFile = Field(alias=STATE_FILE)
    checks: ManifestFile | None = Field(None, alias=CHECKS_FILE)

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.keras is None) == (self.torch is None):
            raise ValueError(f"expected either {' or '.join(MODEL_FILES)}")
        return self

    @property
    def model(self) -> ManifestFile:
        return self.keras or cast("ManifestFile", self.torch)

    @property
    def model_filename(self) -> str:
        return MODEL_FILES[0] if self.keras else MODEL_FILES[1]

    @property
    def listed(self) -> dict[str, ManifestFile]:
        """What there is by name, the model first."""
        files = {self.model_filename: self.model, STATE_FILE: self.state}
        return files if self.checks is None else {**files, CHECKS_FILE: self.checks}

    @property
    def checks_sha256(self) -> str:
        """The sha256 of the checks, "" where there are none."""
        return self.checks.sha256 if self.checks else ""

    @classmethod
    def listing(cls, files: Mapping[str, ManifestFile]) -> Self:
        """Return the listing of these files by name."""
        return cls(**{name: file.model_copy() for name, file in files.items()})


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

    @property
    def weights(self) -> str:
        """The version of the weights alone: the first 16 characters of their sha256."""
        return self.files.model.sha256[:VERSION_LENGTH]

    @property
    def calibration(self) -> str:
        """The version of the calibration alone: the first 16 characters of the sha256 of its state."""
        return self.files.state.sha256[:VERSION_LENGTH]

    @classmethod
    def of(cls, pair: ArtifactPair, version: str | None = None) -> Self:
        """Return the manifest of a pair that is published now, under its content's name unless another is given."""
        return cls(
            model=pair.name,
            version=version or pair.version,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            files=ManifestFiles.listing(
                {name: ManifestFile(**vars(file)) for name, file in fingerprints(pair).items()}
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

    def pair(self, name: str, contents: Mapping[str, bytes], *, place: str) -> ArtifactPair:
        """Return the pair made of these files by name. Raises what `ManifestFile.check` raises."""
        listed = self.files.listed
        found = {file: listed[file].check(contents[file], file=f"{place}/{file}") for file in listed}
        return assemble(name, contents, found)


def contents(pair: ArtifactPair) -> dict[str, bytes]:
    """Return the files of a pair by the names they have where they are published."""
    files = {pair.model_filename: pair.model, STATE_FILE: pair.state}
    return files if pair.checks is None else {**files, CHECKS_FILE: pair.checks}


def fingerprints(pair: ArtifactPair) -> dict[str, FileFingerprint]:
    """Return what was seen of the files of a pair, by the same names."""
    files = {pair.model_filename: pair.model_file, STATE_FILE: pair.state_file}
    return files if pair.checks_file is None else {**files, CHECKS_FILE: pair.checks_file}


def assemble(name: str, files: Mapping[str, bytes], seen: Mapping[str, FileFingerprint]) -> ArtifactPair:
    """Return the pair of which these are the files and their fingerprints; the opposite of the two above."""
    model = MODEL_FILES[0] if MODEL_FILES[0] in files else MODEL_FILES[1]
    return ArtifactPair(
        name,
        files[model],
        files[STATE_FILE],
        seen[model],
        seen[STATE_FILE],
        model,
        files.get(CHECKS_FILE),
        seen.get(CHECKS_FILE),
    )
