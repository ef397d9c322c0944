"""The local interface offers what the interface of models names, under the same names and defaults."""

from __future__ import annotations

import inspect

import pytest

from uqueue_worker.learning.interfaces import ModelInterface
from uqueue_worker.learning.models.local import LocalModelInterface

METHODS = [name for name, one in vars(ModelInterface).items() if callable(one) and not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_names_kinds_and_defaults_are_those_of_the_interface(name: str) -> None:
    expected, found = (inspect.signature(getattr(one, name)) for one in (ModelInterface, LocalModelInterface))
    told = [[(p.name, p.kind, p.default) for p in one.parameters.values()] for one in (expected, found)]
    assert told[0] == told[1]


def test_every_method_is_offered() -> None:
    inherited = {"aget_model_performance_feedback"}
    assert {name for name in METHODS if name not in vars(LocalModelInterface)} == inherited
