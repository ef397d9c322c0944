from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uqueue_config.errors import SettingsError
from uqueue_worker.learning.output_folder import output_folder


def test_it_is_made(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "new" / "one").is_dir()
    assert output_folder(tmp_path) == tmp_path


def test_a_file_is_none_and_neither_is_what_lies_below_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingsError, match=r"--output: .* cannot be a folder"):
            output_folder(path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("module", ["demo", "local_run"])
def test_a_command_says_so_before_it_begins(tmp_path: Path, module: str) -> None:
    (tmp_path / "file").write_text("mine")
    command = [sys.executable, "-m", f"uqueue_worker.learning.{module}", "--output", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --output: ")
    assert len(done.stderr.splitlines()) == 1
