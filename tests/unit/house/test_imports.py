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

#: Other people's modules, imported once. Each of ours is looked at in a fork of that process, which then imports it,
#: too: both save minutes.
PRELOADED = (
    "celery",
    "fastapi",
    "h5py",
    "kombu",
    "numba",
    "numpy",
    "prometheus_client",
    "psycopg_pool",
    "pydantic_settings",
    "redis",
    "rich",
    "scipy",
    "structlog",
    "typer",
)
HEAVY = ("tensorflow", "keras", "fastapi", "flower", "h5py", "scipy", "structlog", "typer", "numba")
PROBE = """
import importlib, json, os, sys, threading, traceback
preloaded, heavy, modules = json.loads(sys.argv[1])
for name in preloaded:
    importlib.import_module(name)
opened, read = [], []
WATCHED = ("socket.connect", "socket.bind", "subprocess.Popen")

def note(event, args):
    if event in WATCHED and args[0] != "uname":  # h5py asks which processor this is
        opened.append(event)

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

def look(module):
    sys.addaudithook(note)
    os.environ = Watched(os.environ)
    threads = threading.active_count()
    try:
        importlib.import_module(module)
    except BaseException:
        return {"error": traceback.format_exc()}
    return {
        "opened": opened, "read": [name for name in read if "uqueue" in name.lower()],
        "threads": threading.active_count() - threads, "heavy": [name for name in heavy if name in sys.modules],
    }

found = {}
for module in modules:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with open(theirs, "w") as answer:
            json.dump(look(module), answer)
        os._exit(0)
    os.close(theirs)
    with open(ours) as answer:
        found[module] = json.loads(answer.read() or '{"error": "it ended the process"}')
    os.waitpid(child, 0)
    if "error" not in found[module]:
        importlib.import_module(module)  # what was looked at need not be imported by those that come later
print(json.dumps(found))
"""


def modules() -> list[str]:
    found = []
    for package in (uqueue_config, uqueue, uqueue_worker):
        found.append(package.__name__)
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.endswith("__main__")]


def probe(*names: str, preloaded: tuple[str, ...] = ()) -> dict[str, dict[str, object]]:
    """Return what the import of each module does, each in a process of its own."""
    asked = json.dumps([preloaded, HEAVY, names])
    done = subprocess.run([sys.executable, "-c", PROBE, asked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def imports() -> dict[str, dict[str, object]]:
    return probe(*modules(), preloaded=PRELOADED)


@pytest.mark.parametrize("module", modules())
def test_an_import_does_nothing(module: str, imports: dict[str, dict[str, object]]) -> None:
    seen = imports[module]
    assert "error" not in seen, seen["error"]
    assert (seen["opened"], seen["read"], seen["threads"]) == ([], [], 0)
    assert not {"tensorflow", "keras"} & set(seen["heavy"])  # type: ignore[call-overload]


def test_the_client_is_light() -> None:
    assert probe("uqueue")["uqueue"]["heavy"] == []


def test_installing_the_client_pulls_only_what_it_needs() -> None:
    requirements = importlib.metadata.requires("uqueue") or []
    base = {re.split(r"[^A-Za-z0-9_-]", line)[0] for line in requirements if "extra ==" not in line}
    assert base == {"celery", "kombu", "numpy", "pydantic", "pydantic-settings", "redis"}


def test_all_is_what_is_exported() -> None:
    for name in uqueue.__all__:
        assert getattr(uqueue, name)
    public = {name for name, value in vars(uqueue).items() if not name.startswith("_") and isinstance(value, type)}
    assert public == set(uqueue.__all__)
