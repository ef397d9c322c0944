from __future__ import annotations

import ast
from pathlib import Path

from uqueue_worker import uncertainty


def test_all_names_what_is_imported() -> None:
    tree = ast.parse(Path(uncertainty.__file__).read_text())
    imported = {name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert set(uncertainty.__all__) == imported - {"annotations"}


def test_the_numerics_stay_pure() -> None:
    allowed = {"__future__", "collections", "dataclasses", "fractions", "math", "numpy", "scipy", "typing"}
    for path in Path(uncertainty.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in allowed | {"uqueue_worker"}
                assert not (node.module or "").startswith("uqueue_worker") or "uncertainty" in (node.module or "")
