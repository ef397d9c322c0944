"""The README's blocks and the examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.artifacts import write_workspace
from builders.service import RunningService, running_service

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
MAKE = [block for kind, block in BLOCKS if kind == "sh" and block.startswith("make")]
RUNNABLE = [(kind, block) for kind, block in BLOCKS if kind in ("sh", "python") and block not in MAKE]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("readme")
    write_workspace(folder / "workspace")
    with running_service(folder / "service", workspace=folder / "workspace", concurrency=1, beat=False) as running:
        yield running


def test_there_are_two_commands_and_make_knows_them() -> None:
    commands = [line.split("#")[0].strip() for line in MAKE[0].splitlines()]
    assert commands == ["make demo", "make test"]
    for command in commands:
        dry = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize(("kind", "block"), RUNNABLE, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(RUNNABLE)])
def test_a_block_runs(kind: str, block: str, service: RunningService, tmp_path: Path) -> None:
    run(["bash", "-euc", block] if kind == "sh" else [sys.executable, "-W", "ignore", "-c", block], service, tmp_path)


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(example: str, service: RunningService, tmp_path: Path) -> None:
    run([sys.executable, str(ROOT / "examples" / example)], service, tmp_path)


def run(command: list[str], service: RunningService, tmp_path: Path) -> None:
    environment = {**service.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
