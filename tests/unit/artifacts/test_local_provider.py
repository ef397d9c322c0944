from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle, write_workspace
from uqueue_config.errors import IncompleteArtifact, ModelInvalid, ModelNotAvailable
from uqueue_worker.artifacts import ArtifactPair, LocalFilesystemProvider, local, pair_version

SMALL = mqnn_h5_bytes(hidden=(4,))


@pytest.fixture
def provider(tmp_path: Path) -> LocalFilesystemProvider:
    write_workspace(tmp_path, model=SMALL)
    return LocalFilesystemProvider(tmp_path)


def test_the_constructor_opens_nothing(tmp_path: Path) -> None:
    provider = LocalFilesystemProvider(str(tmp_path / "nowhere"), name="other")
    assert provider.name == "other"
    assert provider.get_model_path() == tmp_path / "nowhere/models/other/model.h5"
    assert provider.get_state_path() == tmp_path / "nowhere/state/other/mccp_state.pkl"


def test_load_returns_both_files_with_their_fingerprints(provider: LocalFilesystemProvider) -> None:
    pair = provider.load()
    assert pair.name == "mccp-uq"
    assert (pair.model, pair.state) == (SMALL, provider.get_state_path().read_bytes())
    assert pair.model_file.sha256 == hashlib.sha256(SMALL).hexdigest()
    assert pair.model_file.size_bytes == len(SMALL)
    assert pair.model_file.mtime_ns == provider.get_model_path().stat().st_mtime_ns
    assert pair.version == provider.version() == pair_version(pair.model_file.sha256, pair.state_file.sha256)
    assert len(pair.version) == 16
    assert "model=b" not in repr(pair)


def test_pair_version_is_what_it_says() -> None:
    assert pair_version("a" * 64, "b" * 64) == hashlib.sha256(b"a" * 64 + b"b" * 64).hexdigest()[:16]


def test_stale_where_the_state_is_older(provider: LocalFilesystemProvider) -> None:
    assert not provider.load().stale
    os.utime(provider.get_state_path(), ns=(1, 1))
    assert provider.load().stale


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    provider = LocalFilesystemProvider(tmp_path)
    for ask in (provider.load, provider.version):
        with pytest.raises(ModelNotAvailable) as caught:
            ask()
        assert str(provider.get_model_path()) in caught.value.missing
        assert str(provider.get_state_path()) in caught.value.missing
    write_workspace(tmp_path)
    provider.get_state_path().unlink()
    with pytest.raises(ModelNotAvailable) as caught:
        provider.load()
    assert caught.value.missing == str(provider.get_state_path())


def test_version_hashes_only_after_a_change(provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SETTLING_NS", -(10**12))
    first = provider.version()
    reads: list[Path] = []
    read = local.read_file

    def counted(path: Path, limit_bytes: int) -> bytes:
        reads.append(path)
        return read(path, limit_bytes)

    monkeypatch.setattr(local, "read_file", counted)
    assert [provider.version() for _ in range(5)] == [first] * 5
    assert reads == []
    write_state_pickle(provider.get_state_path(), max_mc=7)
    assert provider.version() != first
    assert len(reads) == 2


def test_a_change_within_one_tick_of_the_clock_is_seen(provider: LocalFilesystemProvider) -> None:
    """Same size, same modification time: content decides."""
    path, times = provider.get_state_path(), (10**18, 10**18)
    versions = set()
    for max_mc in range(10, 30):
        write_state_pickle(path, max_mc=max_mc)
        os.utime(path, ns=times)
        versions.add(provider.version())
    assert len(versions) == 20


def test_a_copy_has_the_same_version(provider: LocalFilesystemProvider, tmp_path: Path) -> None:
    shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-copy")
    assert LocalFilesystemProvider(tmp_path.parent / f"{tmp_path.name}-copy").version() == provider.version()


def test_symbolic_links_are_followed(provider: LocalFilesystemProvider, tmp_path: Path) -> None:
    (tmp_path / "links" / "models").mkdir(parents=True)
    (tmp_path / "links" / "state").symlink_to(tmp_path / "state")
    (tmp_path / "links" / "models" / "mccp-uq").mkdir()
    (tmp_path / "links" / "models" / "mccp-uq" / "model.h5").symlink_to(provider.get_model_path())
    assert LocalFilesystemProvider(tmp_path / "links").load().model == SMALL


def test_a_dangling_link_is_a_missing_file(provider: LocalFilesystemProvider, tmp_path: Path) -> None:
    provider.get_model_path().unlink()
    provider.get_model_path().symlink_to(tmp_path / "gone")
    with pytest.raises(ModelNotAvailable):
        provider.load()


@pytest.mark.parametrize("kind", ["fifo", "directory"])
@pytest.mark.parametrize("which", ["model", "state"])
def test_something_else_in_place_of_a_file(provider: LocalFilesystemProvider, kind: str, which: str) -> None:
    path = provider.get_model_path() if which == "model" else provider.get_state_path()
    path.unlink()
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    started = time.monotonic()
    with pytest.raises(ModelInvalid, match="not a regular file"):
        provider.load()
    assert time.monotonic() - started < 1


def test_a_fifo_put_there_after_the_look_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelInvalid, match="not a regular file"):
        local.read_file(tmp_path / "pipe", 100)


def test_a_file_without_permission(provider: LocalFilesystemProvider) -> None:
    provider.get_model_path().chmod(0)
    with as_somebody_who_is_not_root(), pytest.raises(ModelInvalid, match="cannot be read"):
        provider.load()


@contextlib.contextmanager
def as_somebody_who_is_not_root() -> Iterator[None]:
    """Root may read everything."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_refusal_by_the_system_is_named(provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ModelInvalid, match=r"model\.h5: it cannot be read \(Permission denied\)"):
        provider.load()


def test_a_state_of_65_kib_is_not_read(provider: LocalFilesystemProvider) -> None:
    provider.get_state_path().write_bytes(b"x" * (64 * 1024 + 1))
    with pytest.raises(ModelInvalid, match="at most 65536"):
        provider.load()


def test_a_model_beyond_the_limit_is_not_read(provider: LocalFilesystemProvider) -> None:
    with provider.get_model_path().open("r+b") as stream:
        stream.truncate(local.MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelInvalid, match="at most 2147483648"):
        provider.load()


@pytest.mark.parametrize("which", ["model", "state"])
def test_an_empty_file_is_incomplete(provider: LocalFilesystemProvider, which: str) -> None:
    path = provider.get_model_path() if which == "model" else provider.get_state_path()
    path.write_bytes(b"")
    with pytest.raises(IncompleteArtifact, match="it is empty"):
        provider.load()


def test_an_empty_file_that_is_filled_meanwhile_is_read(provider: LocalFilesystemProvider) -> None:
    provider.get_model_path().write_bytes(b"")
    writer = threading.Timer(0.15, provider.get_model_path().write_bytes, [SMALL])
    writer.start()
    try:
        assert provider.load().model == SMALL
    finally:
        writer.join()


def test_a_file_that_never_comes_to_rest(provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    read = local.read_file

    def rewritten(path: Path, limit_bytes: int) -> bytes:
        data = read(path, limit_bytes)
        write_state_pickle(provider.get_state_path(), pad=os.urandom(8))
        return data

    monkeypatch.setattr(local, "read_file", rewritten)
    started = time.monotonic()
    with pytest.raises(IncompleteArtifact, match="changed while it was read"):
        provider.load()
    assert 0.5 < time.monotonic() - started < 5


def test_a_rewriting_trainer_never_yields_a_mixed_read(provider: LocalFilesystemProvider) -> None:
    """A thread rewrites both files in place, over and over; each file that is read is one that was written whole."""
    models = {mqnn_h5_bytes(hidden=(4,), seed=seed) for seed in range(3)}
    states = {write_state_pickle(max_mc=max_mc) for max_mc in range(10, 13)}
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            for model, state in zip(models, states, strict=True):
                provider.get_model_path().write_bytes(model)
                provider.get_state_path().write_bytes(state)
                stop.wait(0.03)

    trainer = threading.Thread(target=train)
    trainer.start()
    read: list[ArtifactPair] = []
    try:
        for _ in range(30):
            try:
                read.append(provider.load())
            except IncompleteArtifact:
                continue
    finally:
        stop.set()
        trainer.join()
    assert read
    assert {pair.model for pair in read} <= models | {SMALL}
    assert {pair.state for pair in read} <= states | {provider.get_state_path().read_bytes(), write_state_pickle()}


def test_a_file_that_vanishes_between_look_and_read(
    provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = local.read_file

    def vanishing(path: Path, limit_bytes: int) -> bytes:
        path.unlink(missing_ok=True)
        return read(path, limit_bytes)

    monkeypatch.setattr(local, "read_file", vanishing)
    with pytest.raises(ModelNotAvailable, match=r"model\.h5 is missing"):
        provider.load()


def test_a_file_replaced_between_two_reads(provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt meets the swap and is thrown away, the second one reads the new pair."""
    read, newer = local.read_file, mqnn_h5_bytes(hidden=(4,), seed=9)
    swaps = [newer]

    def swapping(path: Path, limit_bytes: int) -> bytes:
        data = read(path, limit_bytes)
        if path == provider.get_model_path() and swaps:
            (path.parent / "new").write_bytes(swaps.pop())
            (path.parent / "new").replace(path)
        return data

    monkeypatch.setattr(local, "read_file", swapping)
    assert provider.load().model == newer
