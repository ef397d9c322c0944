"""Data sets of a run: samples as Avro files with fingerprints, and the check that no two sets share any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from uqueue_config.learning.references import DatasetRef
from uqueue_config.learning.runs import DatasetEntry, Role
from uqueue_worker.learning.avro import read_samples, sample_record, write_samples
from uqueue_worker.learning.engine.deployment import DeploymentDistribution
from uqueue_worker.learning.engine.files import check_sha256, content_sha256, write_whole
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset

Sample = dict[str, Any]


def records_of(
    raw: Sequence[Mapping[str, Any]],
    distribution: DeploymentDistribution,
    *,
    seed: int,
    generated: datetime,
    metadata: Mapping[str, Any],
) -> list[Sample]:
    """Return the records of raw or already exported samples: labelled, and with what the run says of them.

    Their ids do not depend on the metadata, so that another run that does the same gives the same ids.
    """
    found = []
    for index, sample in enumerate(raw):
        record = dict(sample)
        if "sample_id" not in record:
            label = sample.get("extracted_class_label") or distribution.label_of(sample)
            labelled = {**sample, "extracted_class_label": label}
            record = sample_record(labelled, seed=seed, index=index, generated=generated)
        known = {name: value for name, value in metadata.items() if value is not None}
        record["sample_metadata"] = {**(record.get("sample_metadata") or {}), **known}
        record["generation_timestamp_utc"] = generated
        found.append(record)
    return found


def register(
    path: Path,
    samples: Sequence[Sample],
    *,
    name: str,
    role: Role,
    requested: int,
    cycle: int | None = None,
    may_reject: float = 0.05,
) -> DatasetEntry:
    """Write samples as the data set of that name, and the ids of them beside it.

    Raises GenerationFailed where more than a share `may_reject` of them are refused, and EmptyDataset where there are
    none.
    """
    if not samples:
        raise EmptyDataset(dataset=name)
    report = write_samples(path, samples, max_rejected_fraction=may_reject)
    kept = [sample for sample in samples if str(sample["sample_id"]) not in report.rejected]
    write_whole(_ids_path(path), "".join(f"{sample['sample_id']}\n" for sample in kept).encode())
    reference = DatasetRef(
        uri=str(path), sha256=report.sha256, n=report.written, schema_fingerprint=report.schema_fingerprint
    )
    return DatasetEntry(
        name=name,
        role=role,
        cycle=cycle,
        ref=reference,
        content_sha256=content_sha256(kept),
        requested=requested,
        rejected=len(report.rejected),
    )


def copied(path: Path, entry: DatasetEntry) -> DatasetEntry:
    """Copy a registered data set, and the ids of its samples, to a path and return it as the entry of that file.

    Raises DatasetNotFound, and DatasetFormat for a changed file.
    """
    check_sha256(Path(entry.ref.uri), entry.ref.sha256)
    ids = sorted(sample_ids(entry.ref))
    write_whole(path, Path(entry.ref.uri).read_bytes())
    write_whole(_ids_path(path), "".join(f"{one}\n" for one in ids).encode())
    return entry.model_copy(update={"ref": entry.ref.model_copy(update={"uri": str(path)})})


def read_registered(reference: DatasetRef) -> list[Sample]:
    """Return the samples of a registered data set. Raises DatasetNotFound, and DatasetFormat for a changed file."""
    check_sha256(Path(reference.uri), reference.sha256)
    return read_samples(reference.uri)


def sample_ids(reference: DatasetRef) -> frozenset[str]:
    """Return the ids of the samples of a registered data set."""
    path = _ids_path(Path(reference.uri))
    if path.is_file():
        return frozenset(path.read_text().split())
    return frozenset(str(sample["sample_id"]) for sample in read_registered(reference))


def check_disjoint(entries: Iterable[DatasetEntry]) -> None:
    """Raise DatasetFormat if a sample is in two data sets, in whatever roles: what is tested was never learned from."""
    seen: dict[str, str] = {}
    for entry, identity in _all_ids(entries):
        first = seen.setdefault(identity, entry.name)
        if first != entry.name:
            raise DatasetFormat(dataset=entry.name, reason=f"sample {identity} is in {first} as well")


def check_unseen(test: DatasetEntry, ids: Iterable[str], what: str) -> None:
    """Raise DatasetFormat if any of these ids is one of the frozen test set."""
    leaked = sample_ids(test.ref).intersection(ids)
    if leaked:
        raise DatasetFormat(dataset=test.name, reason=f"{what} would see its sample {min(leaked)}")


def _all_ids(entries: Iterable[DatasetEntry]) -> Iterator[tuple[DatasetEntry, str]]:
    for entry in entries:
        for identity in sorted(sample_ids(entry.ref)):
            yield entry, identity


def _ids_path(path: Path) -> Path:
    return path.with_suffix(".ids")
