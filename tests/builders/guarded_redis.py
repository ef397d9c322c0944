"""A Redis with the users of deploy/redis, and one more of the test's own who sees what was refused to whom."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import redis

from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue_config.connections import connect

FOLDER = Path(__file__).parents[2] / "deploy/redis"
#: Added to the template by tests only: nobody in a service may do what this user may.
ADMIN = "\nuser admin:\n    on ${REDIS_ADMIN_PASSWORD} ~* &* +@all\n"


def load_make_users() -> ModuleType:
    """Import deploy/redis/make_users.py, which is no package."""
    spec = importlib.util.spec_from_file_location("make_users", FOLDER / "make_users.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class GuardedRedis:
    """A running server with users."""

    server: EmbeddedRedis
    passwords: dict[str, str]
    admin: redis.Redis

    def url(self, user: str) -> str:
        """Return the URL with that user's name and password."""
        return f"redis://{user}:{self.passwords[f'REDIS_{user.upper()}_PASSWORD']}@127.0.0.1:{self.server.port}/0"

    def denials(self) -> list[str]:
        """Return what was refused since the last call, `user reason object context` each."""
        entries = cast(list[dict[str, Any]], self.admin.acl_log(128))
        self.admin.acl_log_reset()
        return [f"{entry['username']} {entry['reason']} {entry['object']} {entry['context']}" for entry in entries]


@contextmanager
def guarded_redis(folder: Path) -> Iterator[GuardedRedis]:
    """Run a Redis with the users of deploy/redis/users.acl, each with a password, and `admin`."""
    make_users = load_make_users()
    template = make_users.TEMPLATE.read_text() + ADMIN
    passwords = {name: f"{name.lower()}-of-this-test" for name in make_users.password_names(template)}
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users.acl"
    users.write_text(make_users.users(template, passwords))
    password = passwords["REDIS_ADMIN_PASSWORD"]
    with (
        start_redis(folder / "data", acl_file=users, user="admin", password=password) as server,
        connect(server.url) as admin,
    ):
        yield GuardedRedis(server, passwords, admin)
