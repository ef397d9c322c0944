"""Payloads: the same bytes come back, a retry is harmless, and nothing else is ever read."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uqueue.submission import prepare, prepare_many
from uqueue_config.envelope import read_celery_message
from uqueue_config.errors import InvalidFeatures, PayloadTooLarge, PayloadUnavailable, ServiceUnreachable
from uqueue_config.features import validate_features
from uqueue_config.messages import PredictRequest
from uqueue_config.payload import PayloadFolder, Reference
from uqueue_config.settings import Settings

TABLE = np.arange(24, dtype=np.float32).reshape(3, 8)
REFERENCE = Reference.to(TABLE)


@pytest.fixture
def payloads(tmp_path: Path) -> PayloadFolder:
    (tmp_path / "shared").mkdir()
    return PayloadFolder(tmp_path / "shared", most_bytes=4096)


def test_what_was_written_is_read_and_nothing_else_is_left(payloads: PayloadFolder) -> None:
    for _ in range(2):
        payloads.write(TABLE, REFERENCE)
    assert payloads.read(REFERENCE).tobytes() == TABLE.tobytes()
    assert [path.name for path in payloads.folder.iterdir()] == [REFERENCE.name]


def test_a_reference_is_a_request_like_any_other() -> None:
    inline = PredictRequest.of(TABLE, "m", 7, None)
    request = PredictRequest.read({"model": "m", "seed": 7, "features": REFERENCE.message()})
    assert request.to_json() == inline.by_reference(REFERENCE).to_json()
    assert request.encoding == "base64"


def test_a_request_reads_its_payload_when_it_is_checked(payloads: PayloadFolder) -> None:
    features = PredictRequest.read({"features": REFERENCE.message()}).raw_features(payloads)
    assert len(features) == 3
    payloads.write(TABLE, REFERENCE)
    assert validate_features(features, columns=8, max_rows=3).tobytes() == TABLE.tobytes()
    with pytest.raises(InvalidFeatures, match="expected 1 to 2 rows, got 3"):
        validate_features(features, columns=8, max_rows=2)


HOSTILE: dict[str, dict[str, Any]] = {
    "another folder": {"ref": "../../etc/passwd"},
    "an absolute path": {"ref": "/etc/passwd"},
    "another hash": {"ref": "0" * 64 + ".f32"},
    "a name as hash": {"sha256": "../" * 21 + "x", "ref": "../" * 21 + "x.f32"},
    "a line break": {"sha256": REFERENCE.sha256 + "\n", "ref": REFERENCE.sha256 + "\n.f32"},
    "capitals": {"sha256": REFERENCE.sha256.upper(), "ref": REFERENCE.sha256.upper() + ".f32"},
    "another type": {"dtype": "<f8"},
    "objects": {"dtype": "|O"},
    "no shape": {"shape": None},
    "no rows": {"shape": [0, 8]},
    "true rows": {"shape": [True, 8]},
    "three dimensions": {"shape": [3, 4, 2]},
    "a member too many": {"data": ""},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_hostile_references_are_refused(payloads: PayloadFolder, changes: dict[str, Any]) -> None:
    request = PredictRequest.read({"features": {**REFERENCE.message(), **changes}})
    with pytest.raises(InvalidFeatures, match="expected"):
        request.raw_features(payloads)


def _link(path: Path) -> None:
    other = path.parent.parent / "elsewhere"
    other.write_bytes(TABLE.tobytes())
    path.symlink_to(other)


SPOILED = {
    "cannot be read": lambda path: None,
    "has 95 bytes, expected 96": lambda path: path.write_bytes(TABLE.tobytes()[:-1]),
    "is not what was submitted": lambda path: path.write_bytes(bytes(96)),
    "not a regular file": os.mkfifo,
    "is not a regular file": lambda path: path.mkdir(),
    r"cannot be read \(Too many levels of symbolic links\)": _link,
}


@pytest.mark.parametrize("reason", SPOILED)
def test_what_is_not_the_payload_is_a_clear_error_at_once(payloads: PayloadFolder, reason: str) -> None:
    SPOILED[reason](payloads.folder / REFERENCE.name)
    with pytest.raises(PayloadUnavailable, match=reason):
        payloads.read(REFERENCE)


def test_a_reference_that_is_too_large_is_not_even_opened(payloads: PayloadFolder) -> None:
    with pytest.raises(PayloadUnavailable, match="UQUEUE_MAX_PAYLOAD_BYTES allows 4096"):
        payloads.read(Reference(REFERENCE.sha256, (10**9, 10**9)))


def test_a_worker_without_a_folder_says_so() -> None:
    features = PredictRequest.read({"features": REFERENCE.message()}).raw_features()
    with pytest.raises(PayloadUnavailable, match="no UQUEUE_PAYLOAD_DIR"):
        np.asarray(features)


def test_racing_writers_and_readers_see_whole_payloads_only(payloads: PayloadFolder) -> None:
    payloads.write(TABLE, REFERENCE)
    errors: list[Exception] = []

    def run(step: Any) -> None:
        try:
            for _ in range(30):
                step()
        except Exception as error:
            errors.append(error)

    steps = [lambda: payloads.write(TABLE, REFERENCE), lambda: payloads.read(REFERENCE)] * 3
    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_old_payloads_are_removed_and_nothing_else(payloads: PayloadFolder) -> None:
    payloads.write(TABLE, REFERENCE)
    fresh = Reference.to(TABLE + 1)
    payloads.write(TABLE + 1, fresh)
    half = payloads.folder / f".{'a' * 64}.{'b' * 16}.tmp"
    theirs = [payloads.folder / "notes.txt", payloads.folder / f"{'a' * 64}.f64"]
    for path in (half, *theirs):
        path.write_text("x")
    an_hour_ago = time.time() - 3600
    for path in (payloads.folder / REFERENCE.name, half, *theirs):
        os.utime(path, (an_hour_ago, an_hour_ago))
    assert payloads.remove_older(1800) == 2
    assert {path.name for path in payloads.folder.iterdir()} == {fresh.name, *(path.name for path in theirs)}


def test_a_payload_that_is_read_is_not_old(payloads: PayloadFolder) -> None:
    payloads.write(TABLE, REFERENCE)
    os.utime(payloads.folder / REFERENCE.name, (0, 0))
    payloads.read(REFERENCE)
    assert payloads.remove_older(1800) == 0


def settings(folder: Path | None, **options: Any) -> Settings:
    return Settings(max_inline_bytes=2048, payload_dir=folder, **options)


LARGE = np.ones((200, 8), np.float32)


def test_only_what_is_too_large_for_a_message_travels_by_reference(payloads: PayloadFolder) -> None:
    submission = prepare_many(settings(payloads.folder), [TABLE, LARGE, LARGE], "m")
    sent = [read_celery_message(one.message)[1]["features"] for one in submission.applications]
    assert isinstance(sent[0], list)
    assert sent[1:] == [Reference.to(LARGE).message()] * 2
    assert list(payloads.folder.iterdir()) == [], "nothing is written before all are checked"
    submission.store_payloads(settings(payloads.folder))
    assert payloads.folder.joinpath(Reference.to(LARGE).name).read_bytes() == LARGE.tobytes()


def test_too_large_and_nowhere_to_put_it(payloads: PayloadFolder) -> None:
    with pytest.raises(PayloadTooLarge, match="UQUEUE_PAYLOAD_DIR"):
        prepare(settings(None), LARGE, "m")
    with pytest.raises(PayloadTooLarge, match="UQUEUE_MAX_PAYLOAD_BYTES allows 1024"):
        prepare(settings(payloads.folder, max_payload_bytes=1024), LARGE, "m")
    missing = settings(payloads.folder / "missing")
    with pytest.raises(ServiceUnreachable, match=r"payload folder .*missing cannot be written"):
        prepare(missing, LARGE, "m").store_payloads(missing)
