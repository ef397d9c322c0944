"""Secrets: where they come from, and that they show nowhere."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path

import pytest
from pydantic import SecretStr

from uqueue_config.errors import SettingsError
from uqueue_worker.learning.credentials import Credential, credential, required

NAME = "A_SECRET"


class Vault:
    """A source of secrets that counts how often it is asked."""

    def __init__(self, **secrets: str) -> None:
        self.secrets, self.asked = secrets, 0

    def read(self, name: str) -> str | None:
        self.asked += 1
        return self.secrets.get(name)


def test_argument_then_environment_then_file_then_source(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file\r\n")
    vault = Vault(A_SECRET="from the vault")
    everything = {NAME: "from the environment", f"{NAME}_FILE": str(file)}
    only_file = {f"{NAME}_FILE": str(file)}

    def found(given: str | SecretStr | None, environ: dict[str, str]) -> str:
        secret = credential(NAME, given, environ=environ, source=vault)
        assert secret is not None
        return secret.reveal()

    assert found("given", everything) == "given"
    assert found(SecretStr("given"), everything) == "given"
    assert found(None, everything) == "from the environment"
    assert found(None, {**only_file, NAME: ""}) == "from the file"
    assert vault.asked == 0
    assert found(None, {}) == "from the vault"
    assert credential(NAME, environ={}, source=Vault()) is None
    assert credential(NAME, file=file, environ=everything).reveal() == "from the file"


def test_it_is_read_when_it_is_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    held = credential(NAME, environ={f"{NAME}_FILE": str(file)})
    with pytest.raises(SettingsError, match=rf"The file {file} with {NAME} cannot be read \(No such file"):
        held.reveal()
    for text in ("one", "another"):
        file.write_text(text)
        assert held.reveal() == text
    file.write_text("\n")
    with pytest.raises(SettingsError, match=f"{NAME} is empty"):
        held.reveal()


@pytest.mark.parametrize(("content", "reason"), [(b"x" * 70_000, "more than 65536 bytes"), (b"\xff\xfe", "utf-8")])
def test_a_file_that_is_no_secret_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=reason):
        credential(NAME, file=file).reveal()


def test_without_one_the_error_says_where_it_may_stand() -> None:
    with pytest.raises(SettingsError, match=f"{NAME} is not set. Set it, or set {NAME}_FILE"):
        required(NAME, environ={})


def test_it_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    held = credential(NAME, "hunter2")
    logging.getLogger("test").warning("%s %r %s", held, held, f"{held:>20}")
    assert "hunter2" not in caplog.text + str(held) + repr(held) + str(vars(Credential)) + repr([held])
    for leak in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            leak(held)
