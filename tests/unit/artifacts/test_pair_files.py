"""Which files make a pair: model.h5 or model.pt, the state, and checks where there are any."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.artifacts import write_workspace
from uqueue_config.errors import IncompleteArtifact, InvalidManifest, ModelInvalid, ModelNotAvailable
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, LocalFilesystemProvider, local
from uqueue_worker.artifacts.manifest import Manifest, contents
from uqueue_worker.artifacts.pair import fingerprint


def make(number: int = 0, *, file: str = "model.h5", checks: bytes | None = None) -> ArtifactPair:
    model, state = f"model {number}".encode() * 50, f"state {number}".encode()
    seen = None if checks is None else fingerprint(checks, 3)
    return ArtifactPair("mccp-uq", model, state, fingerprint(model, 1), fingerprint(state, 2), file, checks, seen)


@pytest.fixture
def provider(tmp_path: Path) -> LocalFilesystemProvider:
    write_workspace(tmp_path, model=b"weights")
    return LocalFilesystemProvider(tmp_path)


def to_torch(provider: LocalFilesystemProvider) -> Path:
    path = provider.get_model_path()
    return path.rename(path.with_name("model.pt"))


def test_a_pytorch_model_in_a_workspace(provider: LocalFilesystemProvider) -> None:
    keras = provider.load()
    path = to_torch(provider)
    assert provider.get_model_path() == path
    pair = provider.load()
    assert (pair.model_filename, pair.model, pair.version) == ("model.pt", b"weights", keras.version)
    assert keras.model_filename == "model.h5"
    assert provider.version() == pair.version
    path.unlink()
    with pytest.raises(ModelNotAvailable, match=r"model\.h5 is missing"):
        provider.load()


def test_two_models_side_by_side_are_refused(provider: LocalFilesystemProvider) -> None:
    """Whichever was taken, the other one might be the new one."""
    provider.get_model_path().with_name("model.pt").write_bytes(b"other weights")
    for ask in (provider.load, provider.version):
        with pytest.raises(ModelInvalid, match=r"it holds model\.h5 and model\.pt; keep the one that is to be served"):
            ask()


def test_checks_in_a_workspace(provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SETTLING_NS", -(10**12))
    bare = provider.load()
    assert (bare.checks, bare.checks_file) == (None, None)
    provider.get_checks_path().write_bytes(b"{}")
    pair = provider.load()
    assert (pair.checks, pair.version) == (b"{}", bare.version)
    assert pair.checks_file is not None
    assert pair.checks_file.size_bytes == 2
    assert provider.version() == bare.version
    provider.get_checks_path().write_bytes(b"")
    with pytest.raises(IncompleteArtifact, match=r"mccp_checks\.json: it is empty"):
        provider.load()
    provider.get_checks_path().write_bytes(b" " * (local.MAX_CHECKS_BYTES + 1))
    with pytest.raises(ModelInvalid, match="at most 8388608 are read"):
        provider.load()


def test_checks_that_appear_while_the_pair_is_read(
    provider: LocalFilesystemProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, appearing = local.read_file, [b'{"schema": 1}']

    def slow(path: Path, limit_bytes: int) -> bytes:
        data = read(path, limit_bytes)
        if appearing:
            provider.get_checks_path().write_bytes(appearing.pop())
        return data

    monkeypatch.setattr(local, "read_file", slow)
    assert provider.load().checks == b'{"schema": 1}'


@pytest.mark.parametrize("pair", [make(), make(file="model.pt"), make(checks=b"{}"), make(file="model.pt", checks=b"")])
def test_a_cache_keeps_all_of_it(pair: ArtifactPair, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    cache.put(pair)
    assert cache.get("mccp-uq", pair.version) == pair
    assert cache.last_served("mccp-uq") == pair


def test_a_cache_takes_other_checks_of_a_version(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    for checks in (None, b"first", b"second", None, b"first"):
        cache.put(make(checks=checks))
        assert cache.get("mccp-uq", make().version) == make(checks=checks)
    folder = tmp_path / "cache/mccp-uq" / make().version
    assert {path.stat().st_mode & 0o077 for path in (folder.parent, folder)} == {0}


def test_a_reader_never_meets_half_of_new_checks(tmp_path: Path) -> None:
    cache, pairs = ArtifactCache(tmp_path / "cache"), [make(checks=b"1" * 1000), make(checks=b"2" * 5000)]
    cache.put(pairs[0])
    stop, found = threading.Event(), set()

    def read() -> None:
        other = ArtifactCache(tmp_path / "cache")
        while not stop.is_set():
            pair = other.get("mccp-uq", pairs[0].version)
            found.add(pair.checks if pair else None)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        cache.put(pairs[number % 2])
    stop.set()
    reader.join()
    assert found <= {pair.checks for pair in pairs}


@pytest.mark.parametrize("damage", ["flip", "remove", "swap"])
def test_damaged_checks_in_the_cache(tmp_path: Path, damage: str) -> None:
    cache, pair = ArtifactCache(tmp_path / "cache"), make(checks=b'{"schema": 1}')
    cache.put(pair)
    folder = tmp_path / "cache/mccp-uq" / pair.version
    path = next(folder.glob("checks-*.json"))
    if damage == "flip":
        path.write_bytes(b'{"schema": 2}')
    elif damage == "remove":
        path.unlink()
    else:
        about = json.loads((folder / "pair.json").read_text())
        (folder / "pair.json").write_text(json.dumps({**about, "model_filename": "../../x"}))
    assert cache.get("mccp-uq", pair.version) is None
    cache.put(pair)
    assert cache.get("mccp-uq", pair.version) == pair


@given(st.sampled_from(["model.h5", "model.pt"]), st.none() | st.binary(min_size=1, max_size=9))
def test_a_manifest_lists_what_there_is(file: str, checks: bytes | None) -> None:
    pair = make(file=file, checks=checks)
    manifest = Manifest.of(pair, "v1")
    read = Manifest.parse(manifest.to_json(), file="manifest.json")
    assert read == manifest
    assert set(read.files.listed) == {file, "mccp_state.pkl", *(["checks.json"] if checks else [])}
    assert read.content == pair.version, "checks are no part of the version"
    assert read.pair("mccp-uq", contents(pair), place="there") == pair


def test_manifests_from_before_are_read() -> None:
    pair = make()
    files = {"model.h5": vars(pair.model_file), "mccp_state.pkl": vars(pair.state_file)}
    old = {"schema": 1, "model": "mccp-uq", "version": "v1", "created_at": "2026-11-20", "files": files}
    assert Manifest.parse(json.dumps(old), file="m").pair("mccp-uq", contents(pair), place="there") == pair
    for wrong in ({**files, "model.pt": vars(pair.model_file)}, {"mccp_state.pkl": vars(pair.state_file)}):
        with pytest.raises(InvalidManifest, match=r"expected either model\.h5 or model\.pt"):
            Manifest.parse(json.dumps({**old, "files": wrong}), file="m")


def test_weights_and_calibration_have_versions_of_their_own() -> None:
    one, other = Manifest.of(make(1)), Manifest.of(make(2))
    recalibrated = Manifest.of(replace(make(1), state=make(2).state, state_file=make(2).state_file))
    assert recalibrated.weights == one.weights == make(1).model_file.sha256[:16]
    assert recalibrated.calibration == other.calibration != one.calibration
    assert len({one.content, other.content, recalibrated.content}) == 3


def test_checks_may_be_a_link_but_no_pipe(provider: LocalFilesystemProvider, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"{}")
    provider.get_checks_path().symlink_to(tmp_path / "elsewhere")
    assert provider.load().checks == b"{}"
    provider.get_checks_path().unlink()
    os.mkfifo(provider.get_checks_path())
    with pytest.raises(ModelInvalid, match="not a regular file"):
        provider.load()
