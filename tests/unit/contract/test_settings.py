"""Settings: from the environment only, everything wrong named at once, secrets never shown."""

from __future__ import annotations

from datetime import timedelta

import pytest

from uqueue_config.errors import SettingsError
from uqueue_config.settings import PREFIX, Settings, redact


def test_defaults_need_no_environment() -> None:
    settings = Settings.load({})
    assert settings.broker == "redis://127.0.0.1:6379/0"
    assert settings.result_store == settings.broker
    assert settings.poll_seconds == timedelta(seconds=10)


def test_a_constructor_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UQUEUE_MAX_ROWS", "7")
    assert Settings().max_rows == 100_000
    assert Settings.load().max_rows == 7


def test_every_problem_is_named_in_one_error() -> None:
    wrong = {
        "UQUEUE_POL_SECONDS": "1",
        "UQUEUE_ENGINE": "magic",
        "UQUEUE_MAX_ROWS": "many",
        "UQUEUE_BROKER_URL": "amqp://user:secret@host",
        "UQUEUE_TARGET_SCALE": "1, x",
        "UQUEUE_POLL_SECONDS": "0",
        "UNRELATED": "x",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.load(wrong)
    text = str(caught.value)
    for name in set(wrong) - {"UNRELATED"}:
        assert name in text
    assert "did you mean UQUEUE_POLL_SECONDS" in text
    assert "secret" not in text
    assert "UNRELATED" not in text


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"UQUEUE_TIME_LIMIT_SECONDS": "5", "UQUEUE_SOFT_TIME_LIMIT_SECONDS": "5"}, "time_limit_seconds"),
        ({"UQUEUE_RECORD_TTL_SECONDS": "60"}, "record_ttl_seconds"),
        ({"UQUEUE_FLOWER_USER": "admin"}, "flower_password"),
    ],
)
def test_settings_that_contradict_each_other(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.load(variables)


def test_environment_round_trip() -> None:
    given = {
        "UQUEUE_BROKER_URL": "redis://:pass@h:1/2",
        "UQUEUE_TARGET_SCALE": "1,2.5",
        "UQUEUE_POLL_SECONDS": "0.25",
        "UQUEUE_FLOWER_USER": "me",
        "UQUEUE_FLOWER_PASSWORD": "hidden",
    }
    settings = Settings.load(given)
    assert Settings.load(settings.environment()) == settings
    assert "hidden" not in repr(settings)
    assert "pass" not in repr(settings.broker_url)


def test_durations_read_iso_8601_too() -> None:
    assert Settings.load({"UQUEUE_RECORD_TTL_SECONDS": "P14D"}).record_ttl_seconds == timedelta(days=14)


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{PREFIX}{name.upper()} has no description"


def test_redact() -> None:
    assert redact("redis://user:secret@host:1/0") == "redis://***@host:1/0"
    assert redact("redis://host:1/0") == "redis://host:1/0"
