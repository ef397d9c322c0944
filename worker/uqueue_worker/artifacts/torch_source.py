"""The code of a TorchScript archive as syntax trees: which functions and classes there are, and what they mention."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from uqueue_config.errors import ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts.torch_archive import TorchArchive

MAX_CODE_BYTES: Final = 2 * 1024 * 1024
MAX_NESTING: Final = 64
_SUFFIX = ".py"
_FOLDER = "code/"
_BRACKETS = re.compile(r"[\[\](){}]")


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method as it stands in the code."""

    node: ast.FunctionDef


class Source:
    """The definitions in an archive's code. Raises ModelInvalid where it does not parse or is too large or too deep."""

    def __init__(self, archive: TorchArchive) -> None:
        self.file = archive.file
        self.functions: dict[str, ast.FunctionDef] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.trees: list[ast.Module] = []
        total = 0
        for name in archive.names:
            if name.startswith(_FOLDER) and name.endswith(_SUFFIX):
                text = archive.text(name)
                total += len(text)
                if total > MAX_CODE_BYTES:
                    raise self.invalid(f"more than {MAX_CODE_BYTES} bytes of code")
                self._add(name.removeprefix(_FOLDER).removesuffix(_SUFFIX).replace("/", "."), _parsed(text, name, self))

    def invalid(self, reason: str) -> ModelInvalid:
        return ModelInvalid(file=self.file, reason=reason)

    def _add(self, module: str, tree: ast.Module) -> None:
        self.trees.append(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                self.functions[f"{module}.{node.name}"] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[f"{module}.{node.name}"] = node

    def function(self, path: list[str]) -> Function:
        """Return a function by its qualified name."""
        node = self.functions.get(".".join(path))
        if node is None:
            raise self.invalid(f"its code calls {'.'.join(path):.120}, which is not there")
        return Function(node)

    def method(self, class_name: str, name: str) -> Function:
        """Return a method of a class."""
        for node in self._class(class_name).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return Function(node)
        raise self.invalid(f"its class {class_name:.120} has no method {name:.80}")

    def class_constant(self, class_name: str, name: str) -> Any:
        """Return the value of `name : Final[...] = value` in a class."""
        for node in self._class(class_name).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
                try:
                    return None if node.value is None else ast.literal_eval(node.value)
                except (ValueError, TypeError):
                    break
        raise self.invalid(f"its class {class_name:.120} has no attribute {name:.80}")

    def check_names(self, is_known: Callable[[str, str], bool]) -> None:
        """Raise UnsafeArtifact for an operation anywhere in the code that `is_known(space, name)` does not know."""
        for tree in self.trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom) and _imported(node) != ["__torch__"]:
                    raise UnsafeArtifact(file=self.file, name=f"an import of {_imported(node)}"[:200], hint="")
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                    self._check("torch", node.attr, is_known)
                elif isinstance(node, ast.Attribute) and _is_ops(node.value):
                    self._check(f"ops.{node.value.attr}", node.attr, is_known)  # type: ignore[attr-defined]

    def _check(self, space: str, name: str, is_known: Callable[[str, str], bool]) -> None:
        if not is_known(space, name):
            raise UnsafeArtifact(file=self.file, name=f"the operation {space}.{name}"[:200], hint="")

    def mentions_dropout(self, statements: list[ast.stmt]) -> bool:
        """Tell whether some statements name dropout in any way."""
        nodes = [node for statement in statements for node in ast.walk(statement)]
        names = [getattr(node, field, "") for node in nodes for field in ("attr", "id")]
        return any("dropout" in str(name).lower() for name in names)

    def _class(self, name: str) -> ast.ClassDef:
        if name not in self.classes:
            raise self.invalid(f"the code of its class {name:.120} is missing")
        return self.classes[name]


def _is_ops(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ops"


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return sorted({alias.name.partition(".")[0] for alias in node.names})


def _parsed(text: str, name: str, source: Source) -> ast.Module:
    """Return the syntax tree. How deep brackets may nest is counted before, the parser's own limits are generous."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise source.invalid(f"the code in {name:.120} is nested more than {MAX_NESTING} deep")
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise source.invalid(f"the code in {name:.120} is not TorchScript ({type(error).__name__})") from error
