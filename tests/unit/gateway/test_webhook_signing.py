"""Signatures of webhooks: those of the standard, by every secret that counts, of secrets that are strong enough."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from builders.webhook_receiver import Received
from uqueue.gateway.webhooks_signing import Secrets, append_secret, headers_of, new_secret, parse_secrets
from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings

BODY = b'{"event_type":"ping","data":{"success":true}}'


def secrets_of(**environment: str) -> Secrets:
    return Secrets(Settings.load({f"UQUEUE_{name}": value for name, value in environment.items()}))


def test_the_example_of_the_standard() -> None:
    key = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")
    headers = headers_of("msg_loFOjxBNrRLzqYUf", 1731705121, BODY, [key])
    assert headers == {
        "webhook-id": "msg_loFOjxBNrRLzqYUf",
        "webhook-timestamp": "1731705121",
        "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    }


def test_each_secret_signs() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = headers_of("msg_1", 1, BODY, parse_secrets(f"{old}, {new}", "here"))
    received = Received("/", headers, BODY)
    assert [received.is_signed_with(secret) for secret in (old, new, other)] == [True, True, False]
    assert not Received("/", headers, BODY + b" ").is_signed_with(old)
    assert not Received("/", headers | {"webhook-timestamp": "2"}, BODY).is_signed_with(old)


def test_secrets_come_from_the_environment_and_a_file_that_may_change(tmp_path: Path) -> None:
    file, fixed, first, second = tmp_path / "secrets", *(new_secret() for _ in range(3))
    append_secret(file, first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = secrets_of(WEBHOOK_SECRETS=fixed, WEBHOOK_SECRETS_FILE=str(file))
    assert found.keys() == parse_secrets(f"{fixed},{first}", "here")
    append_secret(file, second)
    assert found.keys() == parse_secrets(f"{fixed}\n{first} # old\n{second}", "here")
    file.write_text("nothing\n")
    with pytest.raises(SettingsError, match="number 1"):
        found.keys()
    assert len(found.last_keys) == 3
    assert not secrets_of()


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_",
        "whsec_!",
        base64.b64encode(b"y" * 32).decode(),
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        f"whsec_{'A' * 88}",
    ],
)
def test_a_weak_or_wrong_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        secrets_of(WEBHOOK_SECRETS=f"{new_secret()},{secret}")
    assert "UQUEUE_WEBHOOK_SECRETS are not usable: number 2" in refusal.value.message
    assert len(secret) < 7 or secret not in refusal.value.message


def test_settings_mask_secrets() -> None:
    secret = new_secret()
    settings = Settings.load({"UQUEUE_WEBHOOK_SECRETS": secret})
    assert secret not in repr(settings)
    assert settings.environment()["UQUEUE_WEBHOOK_SECRETS"] == secret


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        secrets_of(WEBHOOK_SECRETS_FILE=str(tmp_path / "none"))
    os.mkdir(tmp_path / "folder")
    with pytest.raises(SettingsError, match="cannot be"):
        append_secret(tmp_path / "folder", new_secret())
