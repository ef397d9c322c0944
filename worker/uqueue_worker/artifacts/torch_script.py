"""A TorchScript archive read as data: its code is followed step by step and never handed to torch.

The code of such an archive is text in a small subset of Python. It is parsed, every operation that it names anywhere is
looked up in a list (what is not there is refused by name), and `forward` is followed once with a placeholder for the
table of features, in evaluation mode. What comes out is a `Program`. There are no loops, so following it ends; calls,
steps, numbers and arrays are bounded as well.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from uqueue_config.errors import ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts.torch_archive import TorchArchive
from uqueue_worker.artifacts.torch_ops import OPERATIONS
from uqueue_worker.artifacts.torch_pickle import SCRIPT_PACKAGE, ScriptObject
from uqueue_worker.artifacts.torch_program import Program, ProgramBuilder, Row, weight
from uqueue_worker.artifacts.torch_scalars import LANGUAGE, SCALARS, TrainingFlag, is_scalar
from uqueue_worker.artifacts.torch_shapes import RowCount
from uqueue_worker.artifacts.torch_source import Function, Source

MAX_EVALUATIONS: Final = 200_000
MAX_CALLS_DEEP: Final = 32
_NOTHING = object()


def read_script(archive: TorchArchive, model: Any, constants: tuple[Any, ...], n_features: int | None) -> Program:
    """Return the program of a TorchScript model, given its object and constants as `read_torch_pickle` gave them.

    Raises UnsafeArtifact for an operation that is not listed, ModelInvalid for what is not served.
    """
    if not isinstance(model, ScriptObject):
        raise ModelInvalid(file=archive.file, reason="its data.pkl holds no TorchScript module")
    source = Source(archive)
    source.check_names(_is_known)
    return _Follower(source, constants, ProgramBuilder(archive.file, n_features)).program(model)


def _is_known(space: str, name: str) -> bool:
    return (space == "torch" and (name in OPERATIONS or name in SCALARS)) or f"{space}.{name}" in LANGUAGE


class _Return(Exception):
    """The way out of a function, with what it returns."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Module:
    """A module object met while following the code."""

    def __init__(self, of: ScriptObject) -> None:
        self.of = of


class _Follower:
    """Evaluates the code of `forward` on a placeholder."""

    def __init__(self, source: Source, constants: tuple[Any, ...], builder: ProgramBuilder) -> None:
        self.source = source
        self.file = builder.file
        self.builder = builder
        self.constants = constants
        self.weights: dict[int, Any] = {}
        self.evaluations = 0
        self.depth = 0

    def program(self, model: ScriptObject) -> Program:
        result = self.method(_Module(model), "forward", [self.builder.features], {})
        outputs = list(result) if isinstance(result, list | tuple) else [result]
        if isinstance(result, dict) or not outputs or not all(isinstance(output, Row) for output in outputs):
            what = "in a dict" if isinstance(result, dict) else "as something that is not a table for the features"
            raise self.invalid(f"the model gives its outputs {what}; expected two heads or one table")
        return self.builder.program(outputs)

    def invalid(self, reason: str) -> ModelInvalid:
        return ModelInvalid(file=self.file, reason=reason)

    def method(self, module: _Module, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function = self.source.method(module.of.class_name, name)
        return self.call(function, [module, *args], kwargs)

    def call(self, function: Function, args: list[Any], kwargs: dict[str, Any]) -> Any:
        names = [argument.arg for argument in function.node.args.args]
        defaults = function.node.args.defaults
        values = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
        scope = {name: self.value(node, {}) for name, node in values.items()}
        scope |= dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or set(scope) != set(names):
            raise self.invalid(
                f"{function.node.name:.80} is called with other arguments than it has; one table is served"
            )
        self.depth += 1
        if self.depth > MAX_CALLS_DEEP:
            raise self.invalid(f"its code calls more than {MAX_CALLS_DEEP} deep")
        try:
            self.block(function.node.body, scope)
        except _Return as done:
            return done.value
        finally:
            self.depth -= 1
        return None

    def block(self, statements: list[ast.stmt], scope: dict[str, Any]) -> None:
        for statement in statements:
            self.statement(statement, scope)

    def statement(self, node: ast.stmt, scope: dict[str, Any]) -> None:
        if isinstance(node, ast.Return):
            raise _Return(None if node.value is None else self.value(node.value, scope))
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self.assign(node.targets[0], self.value(node.value, scope), scope)
        elif isinstance(node, ast.Expr):
            self.value(node.value, scope)
        elif isinstance(node, ast.If):
            self.branch(node, scope)
        elif not isinstance(node, ast.Pass):
            raise self.invalid(f"its code has a statement that is not followed here ({type(node).__name__})")

    def assign(self, target: ast.expr, value: Any, scope: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, list | tuple) and len(value) == len(target.elts):
            for part, item in zip(target.elts, value, strict=True):
                self.assign(part, item, scope)
        else:
            raise self.invalid("its code changes an attribute, or unpacks a value into another number of names")

    def branch(self, node: ast.If, scope: dict[str, Any]) -> None:
        test = self.value(node.test, scope)
        if isinstance(test, TrainingFlag):
            if self.source.mentions_dropout(node.orelse if test else node.body):
                raise self.invalid(
                    "dropout that its code calls only while training; call it always, it looks by itself"
                )
        elif type(test) is not bool:
            raise self.invalid("its code branches on values of a row; such models are not served")
        self.block(node.body if test else node.orelse, scope)

    def value(self, node: ast.expr, scope: dict[str, Any]) -> Any:
        """Return what an expression stands for."""
        self.evaluations += 1
        if self.evaluations > MAX_EVALUATIONS:
            raise self.invalid("following its code takes too long")
        handler = _EXPRESSIONS.get(type(node))
        if handler is None:
            raise self.invalid(f"its code has an expression that is not followed here ({type(node).__name__})")
        return handler(self, node, scope)

    def literal(self, node: ast.Constant, scope: dict[str, Any]) -> Any:
        if not is_scalar(node.value):
            raise self.invalid("its code has a number that is too large, or a literal of another type")
        return node.value

    def name(self, node: ast.Name, scope: dict[str, Any]) -> Any:
        if node.id in scope:
            return scope[node.id]
        if node.id in ("inf", "nan"):
            return float(node.id)
        raise self.invalid(f"its code uses the name {node.id:.80}, which is not there")

    def negative(self, node: ast.UnaryOp, scope: dict[str, Any]) -> Any:
        value = self.value(node.operand, scope)
        if not isinstance(node.op, ast.USub) or type(value) not in (int, float):
            raise self.invalid("its code has an operator that is not followed here")
        return -value

    def sequence(self, node: ast.Tuple | ast.List, scope: dict[str, Any]) -> Any:
        items = [self.value(item, scope) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items

    def mapping(self, node: ast.Dict, scope: dict[str, Any]) -> Any:
        return {}  # only as an output, which is refused

    def item(self, node: ast.Subscript, scope: dict[str, Any]) -> Any:
        return self.scalar("__getitem__", [self.value(node.value, scope), self.value(node.slice, scope)])

    def attribute(self, node: ast.Attribute, scope: dict[str, Any]) -> Any:
        path = _dotted(node)
        if path is not None and path[0] == "CONSTANTS" and len(path) == 2 and path[1][1:].isdigit():
            index = int(path[1][1:])
            if index >= len(self.constants):
                raise self.invalid(f"its constant {index} is missing")
            return self.plain(self.constants[index], f"constant {index}")
        if path is not None and path[0] == SCRIPT_PACKAGE:
            return self.source.function(path)
        return self.member(self.value(node.value, scope), node.attr)

    def member(self, owner: Any, name: str) -> Any:
        if not isinstance(owner, _Module):
            raise self.invalid(f"its code reads {name:.80} of something that is not a module")
        if name == "training":
            return TrainingFlag()
        found = owner.of.attributes.get(name, _NOTHING)
        if found is _NOTHING:
            found = self.source.class_constant(owner.of.class_name, name)
        return self.plain(found, name)

    def plain(self, value: Any, name: str) -> Any:
        """Return an attribute as a value: modules, weights as float32 (a single one as a number), numbers, lists."""
        if isinstance(value, ScriptObject):
            return _Module(value)
        if isinstance(value, np.ndarray):
            if id(value) not in self.weights:
                whole = weight(value, name, file=self.file)
                self.weights[id(value)] = value.item() if value.ndim == 0 else whole
            return self.weights[id(value)]
        if isinstance(value, list | tuple):
            if len(value) > 1024:
                raise self.invalid(f"its list {name:.80} is too long")
            return type(value)(self.plain(item, name) for item in value)
        if not is_scalar(value):
            raise self.invalid(f"its attribute {name:.80} is of a type that is not read here")
        return value

    def called(self, node: ast.Call, scope: dict[str, Any]) -> Any:
        path = _dotted(node.func)
        if path is not None and path[0] not in scope:
            if path[:-1] == ["torch"] or path[0] == "ops" or len(path) == 1:
                return self.operation(".".join(path[:-1]), path[-1], node, scope)
            if path[0] == SCRIPT_PACKAGE:
                return self.call(self.source.function(path), *self.arguments(node, scope))
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value, scope)
            if isinstance(owner, _Module):
                return self.method(owner, node.func.attr, *self.arguments(node, scope))
        elif isinstance(node.func, ast.Name) and isinstance(scope.get(node.func.id), Function):
            return self.call(scope[node.func.id], *self.arguments(node, scope))
        raise self.invalid("its code calls something that is neither a module, a function nor an operation")

    def arguments(self, node: ast.Call, scope: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args = [self.value(argument, scope) for argument in node.args]
        return args, {keyword.arg or "": self.value(keyword.value, scope) for keyword in node.keywords}

    def operation(self, space: str, name: str, node: ast.Call, scope: dict[str, Any]) -> Any:
        if f"{space}.{name}" in LANGUAGE or space == "":
            return self.language(f"{space}.{name}", node, scope)
        args, kwargs = self.arguments(node, scope)
        values = [item for value in (*args, *kwargs.values()) for item in (value if type(value) is list else [value])]
        on_values = any(isinstance(value, Row | np.ndarray) for value in values)
        if name in SCALARS and not (on_values and name in OPERATIONS):
            return self.scalar(name, args)
        operation = OPERATIONS.get(name)
        if operation is None or space != "torch":
            raise UnsafeArtifact(file=self.file, name=f"the operation {space}.{name}"[:200], hint="")
        try:
            return operation(self.builder, *args, **kwargs)
        except TypeError as error:
            raise self.invalid(f"its operation {name} is called in a way that is not known") from error

    def scalar(self, name: str, args: list[Any]) -> Any:
        try:
            value = SCALARS[name](*args)
        except (TypeError, ValueError, ArithmeticError, IndexError) as error:
            raise self.invalid(f"its operation {name} is applied to something that it does not take") from error
        if not isinstance(value, list | tuple | Row | np.ndarray | TrainingFlag | _Module) and not is_scalar(value):
            raise self.invalid(f"its operation {name} gives something that is not served")
        return value

    def language(self, name: str, node: ast.Call, scope: dict[str, Any]) -> Any:
        """What TorchScript itself offers: type marks, conversions, attributes by text, and raising an error."""
        if name in ("annotate", ".annotate", ".unchecked_cast", "ops.prim.unchecked_cast") and len(node.args) == 2:
            return self.value(node.args[1], scope)
        if name == ".uninitialized":
            return None
        args, _ = self.arguments(node, scope)
        if name == ".getattr" and len(args) == 2 and type(args[1]) is str:
            return self.member(args[0], args[1])
        if name == "ops.prim.RaiseException":
            raise self.invalid(f"its code raises an error: {args[0] if args else ''!s:.200}")
        if name in LANGUAGE and len(args) == 1:
            convert: Callable[[Any], Any] | None = LANGUAGE[name]
            if convert is not None:
                return self.converted(convert, args[0])
        raise UnsafeArtifact(file=self.file, name=f"the function {name.removeprefix('.')}"[:200], hint="")

    def converted(self, convert: Callable[[Any], Any], value: Any) -> Any:
        if type(value) in (RowCount, TrainingFlag):
            return value
        if not is_scalar(value):
            raise self.invalid(
                "its code takes a number or a truth value from values of a row; such models are not served"
            )
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.invalid("its code converts something that is not a number") from error


def _dotted(node: ast.expr) -> list[str] | None:
    """Return a.b.c as its parts; None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


_EXPRESSIONS: Mapping[type[ast.expr], Callable[[_Follower, Any, dict[str, Any]], Any]] = {
    ast.Attribute: _Follower.attribute,
    ast.Call: _Follower.called,
    ast.Constant: _Follower.literal,
    ast.Dict: _Follower.mapping,
    ast.List: _Follower.sequence,
    ast.Name: _Follower.name,
    ast.Subscript: _Follower.item,
    ast.Tuple: _Follower.sequence,
    ast.UnaryOp: _Follower.negative,
}
