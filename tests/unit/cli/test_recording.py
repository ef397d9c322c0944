"""Which files make a recording, and which windows are cut out of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders.recordings import write_recording
from uqueue.cli import recording as files
from uqueue.cli.recording import open_recording, write_atomically
from uqueue_config.errors import InvalidRecording


def test_windows_are_spread_evenly(tmp_path: Path) -> None:
    opened = open_recording(write_recording(tmp_path, samples=10_000, channels=2))
    assert [(one.start, one.count) for one in opened.windows(1, 4000)] == [(3000, 4000)]
    assert [(one.start, one.count) for one in opened.windows(4, 2500)] == [(n, 2500) for n in (0, 2500, 5000, 7500)]
    whole = opened.windows(1, 16_384)[0]
    assert np.array_equal(whole.samples, opened.recording.samples)
    (middle,) = opened.windows(1, 4000)
    assert np.array_equal(middle.samples, opened.recording.samples[:, 3000:7000])
    with pytest.raises(InvalidRecording, match=r"it has 10000 per channel\. At most 2 fit"):
        opened.windows(3, 4000)


def test_each_window_has_the_frequency_of_its_capture(tmp_path: Path) -> None:
    path = write_recording(tmp_path, samples=10_000, offset=500)
    document = json.loads(path.read_text())
    document["captures"].append({"core:sample_start": 5500, "core:frequency": 7e6})
    path.write_text(json.dumps(document))
    windows = open_recording(path).windows(2, 2048)
    assert [one.frequency_hz for one in windows] == [121.5e6, 7e6]


def test_metadata_may_name_their_data(tmp_path: Path) -> None:
    path = write_recording(tmp_path, dataset="other.bin")
    (tmp_path / "heard.sigmf-data").rename(tmp_path / "other.bin")
    assert open_recording(path).data_path == tmp_path / "other.bin"


def to_text(path: Path) -> Path:
    path.write_text("no JSON")
    return path


def without_data(path: Path) -> Path:
    path.with_suffix(".sigmf-data").unlink()
    return path


def to_archive(path: Path) -> Path:
    return path.with_suffix(".sigmf")


def with_other_data(path: Path) -> Path:
    data = path.with_suffix(".sigmf-data")
    data.write_bytes(data.read_bytes()[::-1])
    return path


def unreadable(path: Path) -> Path:
    path.unlink()
    os.symlink(path, path)
    return path


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.parent, "is a folder; name the .sigmf-meta file"),
        (to_archive, "is an archive; unpack it"),
        (lambda path: path.with_suffix(".sigmf-data"), "is no .sigmf-meta file"),
        (lambda path: path.with_name("none.sigmf-meta"), "No such file"),
        (to_text, "the metadata are not JSON"),
        (without_data, "its data are not there"),
        (with_other_data, "sha512 differs"),
        (unreadable, "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, spoil: Callable[[Path], Path], said: str) -> None:
    path = spoil(write_recording(tmp_path))
    with pytest.raises(InvalidRecording, match=said):
        open_recording(path)


@pytest.mark.parametrize("name", ["../heard.sigmf-data", "", "..", 3, "a\0b", "/etc/passwd"])
def test_data_lie_in_the_same_folder(tmp_path: Path, name: object) -> None:
    with pytest.raises(InvalidRecording, match="the name of a file in the same folder"):
        open_recording(write_recording(tmp_path, dataset=name))


def test_data_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_DATA_BYTES", 2**20 // 4)
    with pytest.raises(InvalidRecording, match="cut out the part of interest"):
        open_recording(write_recording(tmp_path))


def test_files_are_replaced_whole_through_links_and_keep_their_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"before")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomically(link, b"after")
    assert (target.read_bytes(), target.stat().st_mode & 0o777, link.is_symlink()) == (b"after", 0o640, True)
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "none" / "file", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
