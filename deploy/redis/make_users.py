"""Makes the file that Redis loads with `aclfile` from users.acl beside this script. Needs Python 3.11 and nothing else.

    python deploy/redis/make_users.py --new-passwords >> .env     a password for every user
    python deploy/redis/make_users.py FILE                        reads the passwords from the environment, writes FILE

FILE holds no password, only SHA-256 hashes. It is replaced in one step, and only when everything is in order.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name("users.acl")
# Hashes can be tried millions of times a second, so length is what protects. Other characters need escaping in URLs.
PASSWORD = re.compile(r"[A-Za-z0-9_.~-]{20,}")


def password_names(template: str) -> list[str]:
    """Return the variables that the template takes passwords from."""
    return re.findall(r"\$\{(REDIS_\w+_PASSWORD)\}", template)


def users(template: str, passwords: Mapping[str, str]) -> str:
    """Return one `user` line per user. Raises ValueError about passwords that are missing, weak or shared."""
    names = password_names(template)
    if wrong := [name for name in names if not PASSWORD.fullmatch(passwords.get(name, ""))]:
        raise ValueError(f"expected at least 20 characters out of A-Z a-z 0-9 _ . ~ - in {', '.join(wrong)}")
    if len({passwords[name] for name in names}) < len(names):
        raise ValueError("expected a different password for each user")
    values = {name: "#" + hashlib.sha256(passwords[name].encode()).hexdigest() for name in names}
    lines = []
    for title, rules in _blocks(template):
        values[title] = Template(rules).substitute(values)
        if title.startswith("user "):
            lines.append(f"{title} {values[title]}\n")
    return "".join(lines)


def _blocks(template: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", template, flags=re.MULTILINE)
    blocks = re.findall(r"^(\w[\w ]*):\n((?:[ \t]+\S.*\n)+)", text, flags=re.MULTILINE)
    return [(title, " ".join(rules.split())) for title, rules in blocks]


def main(arguments: list[str]) -> int:
    template = TEMPLATE.read_text()
    if arguments == ["--new-passwords"]:
        sys.stdout.writelines(f"{name}={secrets.token_urlsafe(32)}\n" for name in password_names(template))
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(__doc__ or "")
        return 2
    target = Path(arguments[0])
    try:
        text = users(template, os.environ)
        unfinished = target.with_name(target.name + ".new")
        unfinished.write_text(text)
        unfinished.replace(target)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{target} was not written: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
