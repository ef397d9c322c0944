from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair
from uqueue_worker.artifacts.pair import fingerprint


def make(number: int = 0, name: str = "mccp-uq") -> ArtifactPair:
    model, state = f"model {number}".encode() * 100, f"state {number}".encode()
    return ArtifactPair(name, model, state, fingerprint(model, 1_000 + number), fingerprint(state, 2_000 + number))


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache")


def test_what_was_put_comes_back(cache: ArtifactCache, tmp_path: Path) -> None:
    assert not (tmp_path / "cache").exists()
    pair = make()
    cache.put(pair)
    assert cache.get("mccp-uq", pair.version) == pair
    assert cache.versions("mccp-uq") == [pair.version]
    folder = tmp_path / "cache" / "mccp-uq" / pair.version
    assert sorted(path.name for path in folder.iterdir()) == ["mccp_state.pkl", "model.h5", "pair.json"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "cache", folder.parent, folder)} == {0o700}


def test_only_the_newest_are_kept(cache: ArtifactCache, tmp_path: Path) -> None:
    pairs = [make(number) for number in range(5)]
    for age, pair in enumerate(pairs):
        cache.put(pair)
        os.utime(tmp_path / "cache" / "mccp-uq" / pair.version, (1000 + age, 1000 + age))
    cache.put(pairs[2])
    assert [cache.get("mccp-uq", pair.version) is not None for pair in pairs] == [False, False, True, True, True]
    assert cache.versions("mccp-uq")[0] == pairs[2].version


def test_models_do_not_push_each_other_out(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, keep=1)
    for name in ("a", "b"):
        cache.put(make(1, name))
    assert cache.get("a", make(1).version) is not None
    assert cache.get("b", make(1).version) is not None


def test_missing_is_none(cache: ArtifactCache) -> None:
    assert cache.get("mccp-uq", "0" * 16) is None
    assert cache.versions("mccp-uq") == []


@pytest.mark.parametrize("file", ["model.h5", "mccp_state.pkl", "pair.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "link", "directory"])
def test_a_damaged_entry_is_none_and_put_repairs_it(
    cache: ArtifactCache, tmp_path: Path, file: str, damage: str
) -> None:
    pair = make()
    cache.put(pair)
    path = tmp_path / "cache" / "mccp-uq" / pair.version / file
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    elif damage == "cut":
        path.write_bytes(data[:-2])
    else:
        path.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "directory":
        path.mkdir()
    assert cache.get("mccp-uq", pair.version) is None
    cache.put(pair)
    assert cache.get("mccp-uq", pair.version) == pair
    assert [path.name for path in (tmp_path / "cache" / "mccp-uq").iterdir() if path.name == pair.version]


def test_content_under_a_wrong_version_is_none(cache: ArtifactCache, tmp_path: Path) -> None:
    """A consistent entry, its pair.json included, moved to the place of another version."""
    pair = make()
    cache.put(pair)
    folder, other = tmp_path / "cache" / "mccp-uq" / pair.version, "f" * 16
    folder.rename(folder.parent / other)
    about = json.loads((folder.parent / other / "pair.json").read_text())
    (folder.parent / other / "pair.json").write_text(json.dumps(about | {"version": other}))
    assert cache.get("mccp-uq", other) is None


@pytest.mark.parametrize("name", ["../x", "", ".", "..", "a/b", "/etc", "a\x00b", "a\n", "x" * 200, ".hidden"])
def test_hostile_names(cache: ArtifactCache, tmp_path: Path, name: str) -> None:
    assert cache.get(name, make().version) is None
    assert cache.get("mccp-uq", name) is None
    assert cache.versions(name) == []
    with pytest.raises(ModelInvalid, match="cannot name a model"):
        cache.put(make(name=name))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_may_write_to_is_not_trusted(cache: ArtifactCache, tmp_path: Path) -> None:
    pair = make()
    cache.put(pair)
    (tmp_path / "cache").chmod(0o777)
    assert cache.get("mccp-uq", pair.version) is None
    with pytest.raises(ModelInvalid, match="other users may write to it"):
        cache.put(pair)


def test_a_folder_of_another_user_is_not_trusted(cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(make())
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert cache.get("mccp-uq", make().version) is None
    with pytest.raises(ModelInvalid, match="belongs to another user"):
        cache.put(make())


def test_leftovers_of_a_killed_writer_are_removed_in_time(cache: ArtifactCache, tmp_path: Path) -> None:
    cache.put(make())
    old, fresh = (tmp_path / "cache" / "mccp-uq" / f".writing-{name}" for name in ("old", "fresh"))
    for folder in (old, fresh):
        folder.mkdir()
    os.utime(old, (1, 1))
    cache.put(make(1))
    assert (old.exists(), fresh.exists()) == (False, True)


PROCESS = """
import sys
from pathlib import Path
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair
from uqueue_worker.artifacts.pair import fingerprint
cache = ArtifactCache(Path(sys.argv[1]), keep=3)
for turn in range(60):
    number = turn % 4
    model, state = f"model {number}".encode() * 100, f"state {number}".encode()
    pair = ArtifactPair("mccp-uq", model, state, fingerprint(model, 1000 + number), fingerprint(state, 2000 + number))
    cache.put(pair)
    found = cache.get("mccp-uq", pair.version)
    assert found is None or found == pair, found
"""


def test_several_processes_share_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=100)[1].decode() == ""
        assert process.returncode == 0
    cache = ArtifactCache(tmp_path / "cache")
    cache.put(make(3))
    versions = cache.versions("mccp-uq")
    assert 1 <= len(versions) <= 3
    assert all(cache.get("mccp-uq", version) is not None for version in versions)
    assert [path for path in (tmp_path / "cache" / "mccp-uq").iterdir() if path.name.startswith(".")] == []
