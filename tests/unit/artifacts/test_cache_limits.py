"""What is dropped from the cache, and what never is."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uqueue_worker.artifacts import ArtifactCache, ArtifactPair
from uqueue_worker.artifacts.leases import Lease, remove_unless_leased
from uqueue_worker.artifacts.pair import fingerprint

SIZE = 10_000


def make(number: int, name: str = "mccp-uq") -> ArtifactPair:
    model, state = bytes([number]) * SIZE, b"state"
    return ArtifactPair(name, model, state, fingerprint(model, 1), fingerprint(state, 2))


def roomy(folder: Path, entries: float, **options: str) -> ArtifactCache:
    return ArtifactCache(folder, keep=100, max_bytes=int(entries * (SIZE + 1000)), **options)  # type: ignore[arg-type]


def aged(cache: ArtifactCache, *pairs: ArtifactPair) -> None:
    """Let them have been used in this order, long ago."""
    for age, pair in enumerate(pairs):
        os.utime(cache.place(pair.name, pair.version), (1000 + age, 1000 + age))


def kept(cache: ArtifactCache, *pairs: ArtifactPair) -> list[bool]:
    return [cache.get(pair.name, pair.version) == pair for pair in pairs]


def test_the_longest_unused_go_first_when_the_limit_is_passed(tmp_path: Path) -> None:
    cache, pairs = roomy(tmp_path, 3), [make(number) for number in range(4)]
    for pair in pairs[:3]:
        cache.put(pair, serving=False)
    aged(cache, pairs[1], pairs[2], pairs[0])
    cache.put(pairs[3], serving=False)
    assert kept(cache, *pairs) == [True, False, True, True]


def test_all_models_share_the_limit(tmp_path: Path) -> None:
    cache, pairs = roomy(tmp_path, 2), [make(1, "a"), make(2, "b"), make(3, "c")]
    for pair in pairs[:2]:
        cache.put(pair, serving=False)
    aged(cache, *pairs[:2])
    cache.put(pairs[2], serving=False)
    assert kept(cache, *pairs) == [False, True, True]


def test_what_is_served_stays_and_so_does_what_just_came(tmp_path: Path) -> None:
    cache, pairs = roomy(tmp_path, 0.5), [make(number) for number in range(3)]
    cache.put(pairs[0])
    aged(cache, pairs[0])
    cache.put(pairs[1], serving=False)
    cache.put(pairs[2], serving=False)
    assert kept(cache, *pairs) == [True, False, True]


def test_serving_the_next_one_frees_the_one_before(tmp_path: Path) -> None:
    cache, pairs = roomy(tmp_path, 0.5), [make(number) for number in range(3)]
    for pair in pairs:
        cache.put(pair)
    gc.collect()
    assert kept(cache, *pairs) == [False, False, True]


def test_the_number_limit_spares_what_is_served_too(tmp_path: Path) -> None:
    serving, other = ArtifactCache(tmp_path, keep=1), ArtifactCache(tmp_path, keep=1)
    serving.put(make(1))
    for number in (2, 3):
        other.put(make(number))
    assert kept(other, make(1), make(2), make(3)) == [True, False, True]


SERVE = """
import sys
from pathlib import Path
from uqueue_worker.artifacts import ArtifactCache
cache = ArtifactCache(Path(sys.argv[1]))
cache.put(cache.get("mccp-uq", sys.argv[2]))
print("serving", flush=True)
sys.stdin.readline()
"""


def test_what_another_process_serves_stays_until_it_ends(tmp_path: Path) -> None:
    cache, old = roomy(tmp_path / "cache", 0.5), make(1)
    cache.put(old, serving=False)
    command = [sys.executable, "-c", SERVE, str(tmp_path / "cache"), old.version]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        cache.put(make(2), serving=False)
        assert kept(cache, old) == [True]
        process.kill()
    cache.put(make(3), serving=False)
    assert kept(cache, old, make(3)) == [False, True]


def test_a_lease_on_a_folder_that_was_just_removed_does_not_hold(tmp_path: Path) -> None:
    folder = tmp_path / "version"
    folder.mkdir()
    lease = Lease(folder)
    assert lease.holds
    assert not remove_unless_leased(folder)
    folder.rename(tmp_path / "aside")
    assert not lease.holds
    folder.mkdir()
    assert not lease.holds
    assert remove_unless_leased(folder)
    assert not remove_unless_leased(folder)


def test_what_was_served_last_is_known_by_source(tmp_path: Path) -> None:
    here, elsewhere = (roomy(tmp_path / "cache", 9, source=name) for name in ("s3://here", "s3://elsewhere"))
    assert here.last_served("mccp-uq") is None
    here.put(make(1))
    here.put(make(2), serving=False)
    assert here.last_served("mccp-uq") == make(1)
    assert elsewhere.last_served("mccp-uq") is None
    assert roomy(tmp_path / "cache", 9, source="s3://here").last_served("mccp-uq") == make(1)
    assert here.last_served("../mccp-uq") is None


@pytest.mark.parametrize("text", [b"", b"../../etc", b"\xff", b"0123456789abcdef"])
def test_a_damaged_note_of_what_was_served_is_none(tmp_path: Path, text: bytes) -> None:
    cache = roomy(tmp_path / "cache", 9)
    cache.put(make(1))
    (note,) = (tmp_path / "cache" / "mccp-uq").glob("served-*")
    note.write_bytes(text)
    assert cache.last_served("mccp-uq") is None
