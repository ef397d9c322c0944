"""Where webhooks may go: nowhere inside, whatever the URL, the resolver or the receiver says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from builders.webhook_receiver import webhook_receiver
from uqueue.gateway import webhooks_target
from uqueue.gateway.webhooks_target import MAX_ANSWER_BYTES, Answer, Rules, Target, TargetRefused, is_public, post

STRICT, OPEN = Rules(), Rules(allow_http=True, allow_private=True)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::1", "2001:0:808:808::1", "", "localhost", "8.8.8"),
    ],
)
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "::ffff:8.8.8.8", "2606:4700:4700::1111"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//host/", "ftp://host/", "file:///etc/passwd", "http://example.org/", "https:///path"),
        *("https://user@example.org/", "https://user:secret@example.org/", "https://example.org/#part"),
        *("https://example.org:0/", "https://example.org:99999/", "https://example.org:x/", "https://exa mple.org/"),
        *("https://example.org/\r\nHost: evil", "https://example.org/\x00", "https://exämple.org/", "https://a\\@b/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://10.0.0.1:8443/x"),
        *("https://localhost/", "https://LOCALHOST./", "https://a.localhost/", "https://169.254.169.254/latest"),
        "https://example.org/" + "a" * 2000,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        Target.parse(url, STRICT)


def test_a_url_taken_apart() -> None:
    target = Target.parse("https://Example.org:8443/hook/a?b=c", STRICT)
    assert target == Target("example.org", 8443, "/hook/a?b=c", "Example.org:8443", True)
    assert Target.parse("https://[2606:4700::1]", STRICT) == Target("2606:4700::1", 443, "/", "[2606:4700::1]", True)
    assert Target.parse("http://127.0.0.1/", OPEN).port == 80


def leads_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let every name lead to these addresses, another answer each time; returns the names that are asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(webhooks_target.socket, "getaddrinfo", getaddrinfo)
    return asked


def send(url: str, rules: Rules, context: ssl.SSLContext | None = None) -> Answer:
    async def sent() -> Answer:
        async with asyncio.timeout(10):
            tls = context or ssl.create_default_context()
            return await post(Target.parse(url, rules), rules, {"webhook-id": "msg_1"}, b"{}", tls)

    return asyncio.run(sent())


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"])
def test_a_name_that_leads_inside_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leads_to(monkeypatch, [address])
    with pytest.raises(TargetRefused, match="no address of the internet"):
        send("https://hook.example/", STRICT)


def test_a_name_is_asked_for_once_and_the_checked_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an answer that changes between check and use, as in DNS rebinding, nobody would be at the second one."""
    with webhook_receiver() as receiver:
        asked = leads_to(monkeypatch, ["127.0.0.1"], ["203.0.113.1"])
        port = receiver.url.rpartition(":")[2]
        assert send(f"http://hook.example:{port}/a?b=c", OPEN) == Answer(204)
        assert asked == ["hook.example"]
        (received,) = receiver.received
        assert (received.path, received.headers["host"], received.body) == ("/a?b=c", f"hook.example:{port}", b"{}")


def test_certificates_and_their_names_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hook.example").configure_cert(server)
    with webhook_receiver(server) as receiver:
        port = receiver.url.rpartition(":")[2]
        leads_to(monkeypatch, ["127.0.0.1"])
        with pytest.raises(ssl.SSLCertVerificationError):
            send(f"https://hook.example:{port}/", OPEN, client)
        authority.configure_trust(client)
        assert send(f"https://hook.example:{port}/", OPEN, client).status == 204
        with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
            send(f"https://other.example:{port}/", OPEN, client)
        assert len(receiver.received) == 1


@contextmanager
def answering(*pieces: bytes) -> Iterator[str]:
    """A server that writes these bytes to whoever connects, and goes on with the last until nobody listens."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            connection.recv(65536)
            try:
                for piece in pieces:
                    connection.sendall(piece)
                for _ in range(100_000 if pieces and pieces[-1] else 0):
                    connection.sendall(pieces[-1])
            except OSError:
                cut.set()

    cut = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096), Answer(200)),
        (
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 202 Yes\r\n\r\n", b""),
            Answer(202),
        ),
        ((b"HTTP/1.1 503 Wait\r\nRetry-After: 7\r\n\r\n", b""), Answer(503, 7.0)),
        ((b"HTTP/1.1 429 Wait\r\nretry-after: 99999999\r\n\r\n", b""), Answer(429, 86_400.0)),
        ((b"HTTP/1.1 429 Wait\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n", b""), Answer(429, 0.0)),
        ((b"HTTP/1.1 429 Wait\r\nRetry-After: soon\r\n\r\n", b""), Answer(429)),
        ((b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", b""), Answer(302)),
    ],
)
def test_of_an_answer_only_the_head_is_read(pieces: tuple[bytes, ...], expected: Answer) -> None:
    with answering(*pieces) as url:
        assert send(url, OPEN) == expected


@pytest.mark.parametrize(
    "pieces",
    [(b"",), (b"220 mail.example ESMTP\r\n", b""), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000), (b"HTTP/1.1 2", b"")],
)
def test_what_is_no_answer_is_an_error(pieces: tuple[bytes, ...]) -> None:
    assert MAX_ANSWER_BYTES < 6 * 100_000
    with answering(*pieces) as url, pytest.raises(ValueError, match="HTTP"):
        send(url, OPEN)
