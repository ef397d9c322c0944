"""Columns that are kept between evaluations: shared by processes, and never a reason for one to fail."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from builders.ensembles import FEATURES, write_dataset, write_version
from builders.learning_subject import NAMED
from uqueue_config.learning.model_manifest import Feature
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import Settings
from uqueue_worker.learning.errors import DatasetFormat
from uqueue_worker.learning.hosting import COLUMNS, Host
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.queue import QueueBackedModelInterface, columns
from uqueue_worker.learning.models.queue.chunks import chunks_of
from uqueue_worker.learning.models.queue.columns import ColumnsFolder
from uqueue_worker.learning.models.sample_table import SampleTable

SPEC = FeatureSpec(tuple(Feature(path=path) for path in FEATURES), max_missing_rate=1.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "pool.avro", 60)


def fresh(dataset: Path) -> Iterator[SampleTable]:
    yield from chunks_of(open_dataset(dataset, [dataset.parent]), SPEC, 10, None).tables


def nothing() -> Iterator[SampleTable]:
    pytest.fail("it was read again")
    yield


def told(tables: Iterator[SampleTable]) -> list[Any]:
    """Return what tables say, but for the report about missing features, which is of all of them together."""
    return [
        (one.ids, one.values.tobytes(), one.labels, one.scenario_ids, one.seconds, one.sensors, one.present.tolist())
        for one in tables
    ]


def kept(folder: Path, tables: Iterator[SampleTable], name: str = "pool") -> Iterator[SampleTable]:
    return ColumnsFolder(folder).tables(tables, name, SPEC, 10, None)


def names(folder: Path, pattern: str) -> Sequence[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_what_is_kept_is_what_was_read(tmp_path: Path, dataset: Path) -> None:
    folder = tmp_path / "columns"
    first = told(kept(folder, fresh(dataset)))
    assert first == told(fresh(dataset)) == told(kept(folder, nothing()))
    assert len(names(folder, "*")) == 1
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert told(kept(folder, fresh(dataset))) == first == told(kept(folder, nothing()))


def test_two_that_read_at_a_time_keep_one_file(tmp_path: Path, dataset: Path) -> None:
    folder = tmp_path / "columns"
    one, other = kept(folder, fresh(dataset)), kept(folder, fresh(dataset))
    found = list(zip(one, other, strict=True))
    assert told(iter([first for first, _ in found])) == told(iter([second for _, second in found]))
    assert len(names(folder, "*.jsonl")) == 1
    assert names(folder, ".*") == []


def test_a_file_that_another_process_removes_is_read_to_its_end(tmp_path: Path, dataset: Path) -> None:
    folder = tmp_path / "columns"
    first = told(kept(folder, fresh(dataset)))
    reading = kept(folder, nothing())
    begun = next(reading)
    for path in folder.iterdir():
        path.unlink()
    assert told(iter([begun, *reading])) == first


def test_the_oldest_go_and_so_does_what_killed_processes_left(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "KEPT", 2)
    folder = tmp_path / "columns"
    told(kept(folder, fresh(dataset), "a"))
    (of_a,) = folder.iterdir()
    os.utime(of_a, (1, 1))
    for name in (".writing-now", ".writing-long-ago"):
        (folder / name).touch()
    os.utime(folder / ".writing-long-ago", (1, 1))
    told(kept(folder, fresh(dataset), "b"))
    told(kept(folder, fresh(dataset), "a"))  # which is used again
    assert of_a.exists()
    told(kept(folder, fresh(dataset), "c"))
    assert of_a.exists()
    assert len(names(folder, "*.jsonl")) == 2
    assert names(folder, ".*") == [".writing-now"]


def test_where_there_can_be_no_folder_the_tables_come_all_the_same(
    tmp_path: Path, dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").touch()
    with caplog.at_level(logging.WARNING):
        assert told(kept(tmp_path / "a file" / "columns", fresh(dataset))) == told(fresh(dataset))
    assert [record.getMessage() for record in caplog.records] == ["The columns of pool are not kept: Not a directory."]


def test_a_full_disk_ends_the_keeping_and_nothing_else(
    tmp_path: Path, dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = told(fresh(dataset))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may grow beyond it
        found = told(kept(tmp_path / "columns", fresh(dataset)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found == expected
    assert [record.getMessage() for record in caplog.records] == ["The columns of pool are not kept: File too large."]
    assert list((tmp_path / "columns").iterdir()) == []


def test_what_goes_wrong_with_the_data_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "pool.avro").write_bytes(b"no Avro")
    with pytest.raises(DatasetFormat):
        told(kept(tmp_path / "columns", fresh(tmp_path / "pool.avro")))
    assert list((tmp_path / "columns").iterdir()) == []


def test_learning_workers_keep_columns_below_their_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    dataset = write_dataset(data / "runs" / "pool.avro", 60)
    settings = LearningSettings(data_dir=data, models_dir=tmp_path / "models", subject=NAMED)
    host = Host(Settings(), settings, None)  # type: ignore[arg-type]  # nothing is sent
    model = host.model
    assert isinstance(model, QueueBackedModelInterface)
    write_version(tmp_path / "models", name=host.subject.model)
    tables = model.chunks(dataset, model.pinned("1")).tables
    assert sum(len(one) for one in tables) == 60
    (path,) = (data / COLUMNS).iterdir()
    for asked in (data / COLUMNS, path):
        with pytest.raises(DatasetFormat):
            model.get_model_performance_feedback(asked, "1")
