"""What a rediss:// URL means, before anything is opened."""

from __future__ import annotations

import ssl

import pytest
import redis
from celery import Celery
from kombu import Connection

from uqueue_config.connections import connect
from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings

CHECKED = "ssl_cert_reqs=required&ssl_check_hostname=true"


def broker(url: str) -> str:
    return Settings.load({"UQUEUE_BROKER_URL": url}).broker


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("redis://:pw@host:6379/0", "redis://:pw@host:6379/0"),
        ("redis://host/0?health_check_interval=5", "redis://host/0?health_check_interval=5"),
        ("rediss://u:p%3F@host:6380/0", f"rediss://u:p%3F@host:6380/0?{CHECKED}"),
        ("rediss://host/0?ssl_ca_certs=/etc/ca.pem", f"rediss://host/0?ssl_ca_certs=/etc/ca.pem&{CHECKED}"),
        ("rediss://host/0?ssl_cert_reqs=CERT_REQUIRED", f"rediss://host/0?{CHECKED}"),
        (f"rediss://host/0?{CHECKED}", f"rediss://host/0?{CHECKED}"),
    ],
)
def test_checks_are_added_to_every_url_for_tls(given: str, used: str) -> None:
    assert broker(given) == used


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("rediss://host/0?ssl_cert_reqs=none", "expected ssl_cert_reqs=required or nothing; name the server's CA"),
        ("rediss://host/0?ssl_cert_reqs=CERT_NONE", "expected ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=optional", "expected ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_check_hostname=false", "expected ssl_check_hostname=true"),
        ("redis://host/0?ssl_ca_certs=/etc/ca.pem", "expected rediss:// in a URL with ssl_ca_certs"),
    ],
)
def test_tls_without_checks_is_refused(url: str, complaint: str) -> None:
    for name in ("UQUEUE_BROKER_URL", "UQUEUE_RESULT_URL"):
        with pytest.raises(SettingsError, match=complaint):
            Settings.load({name: url})


def test_all_three_libraries_read_it_alike() -> None:
    """Of a URL without the added options kombu would make a connection that checks nothing."""
    url = broker("rediss://:pw@host:6380/0?ssl_ca_certs=/etc/ca.pem")
    client = connect(url).connection_pool
    assert issubclass(client.connection_class, redis.SSLConnection)
    own = client.make_connection()
    assert (own.cert_reqs, own.check_hostname, own.ca_certs) == (ssl.CERT_REQUIRED, True, "/etc/ca.pem")

    expected = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": "/etc/ca.pem"}
    assert Connection(url).ssl == expected
    assert Connection(url.partition("?")[0]).ssl == {"ssl_cert_reqs": ssl.CERT_NONE}

    backend = Celery(backend=url, set_as_current=False).backend.connparams
    assert issubclass(backend["connection_class"], redis.SSLConnection)
    assert {name: backend[name] for name in expected} == expected
