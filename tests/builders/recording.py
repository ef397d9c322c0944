"""Collaborators of the manager that write down how they are called, and answer what a test says."""

from __future__ import annotations

from typing import Any


class Recorder:
    """Answers every method that it was given an answer for: a value, an exception to raise, or a function.

    `calls` has (method, positional arguments, keyword arguments). Other attributes do not exist.
    """

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("_answers", {}):
            raise AttributeError(name)

        def called(*given: Any, **named: Any) -> Any:
            self.calls.append((name, given, named))
            answer = self._answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer(*given, **named) if callable(answer) else answer

        return called

    def of(self, method: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the arguments of every call of a method."""
        return [(given, named) for name, given, named in self.calls if name == method]


NOTHING = {
    "get_scenario_by_id": None,
    "create_scenario_variation": None,
    "craft_scenario_from_features": None,
    "get_scenarios_by_class_label": [],
    "get_default_exploration_scenario": None,
}


def a_repository(**answers: Any) -> Recorder:
    """Return a repository that has nothing but what is said here."""
    return Recorder(**{**NOTHING, **answers})
