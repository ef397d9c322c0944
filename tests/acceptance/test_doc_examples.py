"""The Python programs in the documentation run as they stand, in a process and a folder of their own.

A block that begins with ```python is a program; one with ```py is a part of one, and needs what the page says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    pytest.param(found[1], id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in sorted(ROOT.glob("docs/**/*.md"))
    for number, found in enumerate(re.finditer(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_programs() -> None:
    assert len(PROGRAMS) > 8
