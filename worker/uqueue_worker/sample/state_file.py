"""Writes a calibration state as the MCCP library does, though that library is not installed here."""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

MODULE: Final = "mccp_lib.mccp.mccp"
#: Absolute, in kWh/m2 of targets between 6 and 45. The library's 5e-4 suits targets scaled to about 1; here it would
#: never be reached within `max_mc` passes.
DELTA: Final = 0.01


def pickled_state(q_hat: Any, *, alpha: float) -> bytes:
    """Return the pickle of an `mccp_lib.mccp.mccp.MCCP` with this correction and the usual stop rule."""
    with _class_of_the_library() as cls:
        state = cls()
        vars(state).update(q_hat=q_hat, patience=2, delta=DELTA, max_mc=50, alpha=alpha, mode="regression", model=None)
        return pickle.dumps(state)


@contextlib.contextmanager
def _class_of_the_library() -> Iterator[type[Any]]:
    """Provide the class under the library's name while something is pickled: pickle looks its module up."""
    names = ["mccp_lib", "mccp_lib.mccp", MODULE]
    before = {name: sys.modules.get(name) for name in names}
    cls = type("MCCP", (), {"__module__": MODULE})
    sys.modules.update({name: types.ModuleType(name) for name in names})
    setattr(sys.modules[MODULE], cls.__name__, cls)
    try:
        yield cls
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
