"""Importing any module opens no socket, reads no setting, starts no thread; the client needs nothing heavy."""

from __future__ import annotations

import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys

import pytest

import uqueue
import uqueue_config
import uqueue_worker

PROBE = """
import importlib, json, os, sys, threading
opened, read = [], []
WATCHED = ("socket.connect", "socket.bind", "subprocess.Popen")

def note(event, args):
    if event in WATCHED and args[0] != "uname":  # h5py asks which processor this is
        opened.append(event)

sys.addaudithook(note)

class Watched(dict):
    def __getitem__(self, key):
        read.append(str(key))
        return super().__getitem__(key)
    def get(self, key, default=None):
        read.append(str(key))
        return super().get(key, default)
    def __iter__(self):
        if sys._getframe(1).f_globals.get("__name__", "").startswith("uqueue"):
            read.append("all of it, by uqueue")
        return super().__iter__()

os.environ = Watched(os.environ)
threads = threading.active_count()
importlib.import_module(sys.argv[1])
heavy = ("tensorflow", "keras", "fastapi", "flower", "h5py", "scipy", "structlog", "typer", "numba")
print(json.dumps({
    "opened": opened, "read": [name for name in read if "uqueue" in name.lower()],
    "threads": threading.active_count() - threads, "heavy": [name for name in heavy if name in sys.modules],
}))
"""


def modules() -> list[str]:
    found = []
    for package in (uqueue_config, uqueue, uqueue_worker):
        found.append(package.__name__)
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.endswith("__main__")]


def probe(module: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROBE, module], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", modules())
def test_an_import_does_nothing(module: str) -> None:
    seen = probe(module)
    assert (seen["opened"], seen["read"], seen["threads"]) == ([], [], 0)
    assert not {"tensorflow", "keras"} & set(seen["heavy"])  # type: ignore[call-overload]


def test_the_client_is_light() -> None:
    assert probe("uqueue")["heavy"] == []


def test_installing_the_client_pulls_only_what_it_needs() -> None:
    requirements = importlib.metadata.requires("uqueue") or []
    base = {re.split(r"[^A-Za-z0-9_-]", line)[0] for line in requirements if "extra ==" not in line}
    assert base == {"celery", "kombu", "numpy", "pydantic", "pydantic-settings", "redis"}


def test_all_is_what_is_exported() -> None:
    for name in uqueue.__all__:
        assert getattr(uqueue, name)
    public = {name for name, value in vars(uqueue).items() if not name.startswith("_") and isinstance(value, type)}
    assert public == set(uqueue.__all__)
