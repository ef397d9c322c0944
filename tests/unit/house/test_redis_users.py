"""deploy/redis/make_users.py: from a template and passwords to the file that Redis loads."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from builders.guarded_redis import FOLDER, load_make_users

make_users = load_make_users()
TEMPLATE = make_users.TEMPLATE.read_text()
SCRIPT = str(FOLDER / "make_users.py")


def good_passwords() -> dict[str, str]:
    return {name: f"{name.lower()}-long-enough" for name in make_users.password_names(TEMPLATE)}


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], env=env or {}, capture_output=True, text=True)


def test_each_user_becomes_a_line_with_a_hash(tmp_path: Path) -> None:
    passwords = good_passwords()
    target = tmp_path / "users.acl"
    assert run(str(target), env=passwords).returncode == 0
    lines = target.read_text().splitlines()
    assert lines[0] == "user default reset off"
    assert len(lines) == 1 + len(passwords)
    for name, password in passwords.items():
        user = name.split("_")[1].lower()
        start = f"user {user} on #{hashlib.sha256(password.encode()).hexdigest()} "
        assert len([line for line in lines if line.startswith(start)]) == 1
    assert not [password for password in passwords.values() if password in target.read_text()]
    assert "$" not in target.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["users.acl"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"REDIS_BEAT_PASSWORD": "short"}, "at least 20 characters out of A-Z a-z 0-9 _ . ~ - in REDIS_BEAT_PASSWORD"),
        ({"REDIS_BEAT_PASSWORD": ""}, "REDIS_BEAT_PASSWORD"),
        ({"REDIS_BEAT_PASSWORD": "has@and/which-need-escaping-in-a-url"}, "REDIS_BEAT_PASSWORD"),
        ({"REDIS_BEAT_PASSWORD": good_passwords()["REDIS_WORKER_PASSWORD"]}, "a different password for each user"),
    ],
)
def test_bad_passwords_leave_the_old_file_in_place(change: dict[str, str], complaint: str, tmp_path: Path) -> None:
    target = tmp_path / "users.acl"
    target.write_text("the old one")
    done = run(str(target), env={**good_passwords(), **change})
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert target.read_text() == "the old one"


def test_new_passwords_are_good_ones(tmp_path: Path) -> None:
    printed = dict(line.split("=", 1) for line in run("--new-passwords").stdout.splitlines())
    assert list(printed) == make_users.password_names(TEMPLATE)
    assert run(str(tmp_path / "users.acl"), env=printed).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--typo"], ["one", "two"]])
def test_wrong_arguments_explain_the_right_ones(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "--new-passwords" in done.stderr


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run(str(tmp_path / "missing/users.acl"), env=good_passwords())
    assert done.returncode == 2
    assert "missing/users.acl" in done.stderr
