"""Gets the kernels compiled, once per process, and keeps the machine code on disk for the processes to come.

Compiling takes 5 to 10 s, reading the compiled kernel back a few tenths. What is read back is machine code and a
pickle, so it is only kept where nobody else can write: in the first of

    $NUMBA_CACHE_DIR, where numba was given one
    $XDG_CACHE_HOME/uqueue or ~/.cache/uqueue
    uqueue-<user id> in the folder for temporary files

that belongs to this user and cannot be written by others, in a folder named after the content of these sources and the
versions of numba and llvmlite; numba itself tells processors apart. Without such a folder every process compiles for
itself. Several processes may write at once: numba replaces whole files.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

Variant = Literal["vector", "plain"]
VARIANTS: tuple[Variant, ...] = ("vector", "plain")
_MODULES: dict[Variant, str] = {"vector": "kernel", "plain": "plain_kernel"}

#: LLVM ends the process where it cannot lower something, so that no self-test would help: only what was tried.
_VECTOR_MACHINES = ("x86_64", "amd64")

_log = structlog.get_logger("uqueue.models")
_lock = threading.Lock()
_loaded: dict[Variant, Kernels] = {}
_forgotten: set[Variant] = set()


class KernelUnavailable(Exception):
    """The kernel cannot be used here, for the reason given. Never leaves the package `models`."""


@dataclass(frozen=True)
class Kernels:
    """The two entries of a kernel module; see `kernel.answer` and `kernel.record`. Compiled at the first call."""

    variant: Variant
    answer: Callable[..., None]
    record: Callable[..., None]


def load_kernels(variant: Variant) -> Kernels:
    """Return the entries of a variant. Raises KernelUnavailable where numba is missing or lacks what we need."""
    with _lock:
        if variant not in _loaded:
            _loaded[variant] = _load(variant)
        return _loaded[variant]


def forget_compiled(variant: Variant) -> bool:
    """Remove what is kept on disk of a variant, and load it anew at the next `load_kernels`; once per process.

    For a kernel that failed although it compiled once: a file may be damaged. Returns whether there was anything.
    """
    with _lock:
        kernels = _loaded.get(variant)
        if kernels is None or variant in _forgotten:
            return False
        _forgotten.add(variant)
        stats = [getattr(entry, "stats", None) for entry in (kernels.answer, kernels.record)]
        folders = {Path(found.cache_path) for found in stats if found is not None and found.cache_path}
        files = [file for folder in folders for file in folder.glob(f"{_MODULES[variant]}.*")]
        for file in files:
            file.unlink(missing_ok=True)
        if files:
            importlib.reload(importlib.import_module(f"{__package__}.{_MODULES[variant]}"))
            del _loaded[variant]
        return bool(files)


def _load(variant: Variant) -> Kernels:
    if variant == "vector" and platform.machine().lower() not in _VECTOR_MACHINES:
        raise KernelUnavailable(f"the vector kernel was never tested on {platform.machine()}")
    try:
        import numba

        module = importlib.import_module(f"{__package__}.{_MODULES[variant]}")
    except Exception as error:  # numba's internals raise anything where they moved
        raise KernelUnavailable(f"{type(error).__name__}: {error}") from error
    kernels = Kernels(variant, module.answer, module.record)
    folder = cache_folder(numba)
    if folder is None:
        _log.warning("kernel_not_cached", reason="no folder that only this user can write")
        return kernels
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        for entry in (module.answer, module.record):
            entry.enable_caching()
    except (OSError, RuntimeError) as error:
        _log.warning("kernel_not_cached", folder=str(folder), reason=str(error))
    finally:
        numba.config.CACHE_DIR = before
    return kernels


def cache_folder(numba: Any) -> Path | None:
    """Return this user's private folder for the kernels of these sources, made where needed, or None."""
    for parent in _parents(numba):
        folder = parent / "kernels" / _fingerprint(numba)
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if all(map(_is_private, (parent, folder.parent, folder))) and os.access(folder, os.W_OK):
            return folder
    return None


def _parents(numba: Any) -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    if Path(home).is_absolute():
        yield Path(home) / "uqueue"
    if hasattr(os, "getuid"):
        yield Path(tempfile.gettempdir()) / f"uqueue-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    """Tell whether it is a real folder of this user that nobody else can write to."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    return os.name != "posix" or (found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _fingerprint(numba: Any) -> str:
    """numba only looks at the file of an entry; a change in the files it uses must count as well."""
    import llvmlite

    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    here = Path(__file__).parent
    for source in (*sorted(here.glob("*.py")), here.parent / "randomness.py"):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
