"""From environment variables with a common prefix to a checked model, with every problem in one message."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from uqueue_config.errors import SettingsError

Model = TypeVar("Model", bound=BaseModel)


def read_variables(kind: type[Model], prefix: str, given: Mapping[str, str], overrides: Mapping[str, Any]) -> Model:
    """Return the model that the variables describe: each is the prefix and a field in capitals; `overrides` win.

    Raises SettingsError naming every unknown and every wrong variable.
    """
    fields = {prefix + name.upper(): name for name in kind.model_fields}
    problems = [_unknown(name, prefix, fields) for name in given if name not in fields]
    values: dict[str, Any] = {fields[name]: value for name, value in given.items() if name in fields}
    try:
        settings = kind(**{**values, **overrides})
    except ValidationError as error:
        problems += [_wrong(item, prefix) for item in error.errors(include_url=False, include_input=False)]
    if problems:
        lines = "".join(f"\n  {problem}" for problem in sorted(problems))
        raise SettingsError(f"The settings are not usable:{lines}", problems=sorted(problems))
    return settings


def _unknown(name: str, prefix: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1)
    return f"{name}: no such setting" + (f"; did you mean {prefix}{near[0]}?" if near else "")


def _wrong(item: Any, prefix: str) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{prefix}{str(item['loc'][0]).upper()}: {message}" if item["loc"] else f"{prefix}*: {message}"
