"""Ways to say who is asking. Secrets are read when they are used, and never appear in errors or logs."""

from __future__ import annotations

import base64
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import SecretStr

from uqueue_worker.learning.credentials import Credential, credential
from uqueue_worker.learning.errors import EndpointAuth, EndpointContract
from uqueue_worker.learning.models.rest.endpoint import check_address, check_encrypted

#: Posts a form (url, headers, body) and returns the JSON of the answer.
PostForm = Callable[[str, Mapping[str, str], bytes], Awaitable[Any]]
Secret = str | SecretStr | Credential
#: A token is not used in the last part of its life, so that it does not lapse on its way.
_EARLY_SECONDS = 60.0


class Auth(ABC):
    """Gives the headers of each request."""

    @abstractmethod
    async def headers(self, post_form: PostForm) -> dict[str, str]:
        """Return the headers that go with the next request. Raises EndpointAuth where there are none to be had."""

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Say whether trying once more may help after the server refused these headers with 401."""
        return False

    def secrets(self) -> list[str]:
        """Return what must not be shown, so that it can be taken out of what a server says."""
        return []


class NoAuth(Auth):
    async def headers(self, post_form: PostForm) -> dict[str, str]:
        return {}


class _Fixed(Auth):
    """Sends one header that is made from secrets."""

    def __init__(self) -> None:
        self._shown: list[str] = []

    async def headers(self, post_form: PostForm) -> dict[str, str]:
        name, value, hidden = self._header()
        self._shown = hidden
        return {name: _sendable(value)}

    def secrets(self) -> list[str]:
        return self._shown

    @abstractmethod
    def _header(self) -> tuple[str, str, list[str]]:
        """Return name, value, and what of it is secret."""


class Bearer(_Fixed):
    """`Authorization: Bearer <token>`."""

    def __init__(self, token: Secret) -> None:
        super().__init__()
        self._token = _credential("the bearer token", token)

    def _header(self) -> tuple[str, str, list[str]]:
        token = self._token.reveal()
        return "Authorization", f"Bearer {token}", [token]


class ApiKey(_Fixed):
    """A key in a header of its own, X-API-Key unless another one is named."""

    def __init__(self, key: Secret, header: str = "X-API-Key") -> None:
        super().__init__()
        self._key = _credential("the API key", key)
        self._name = header

    def _header(self) -> tuple[str, str, list[str]]:
        key = self._key.reveal()
        return self._name, key, [key]


class Basic(_Fixed):
    """User and password."""

    def __init__(self, user: str, password: Secret) -> None:
        super().__init__()
        self._user = user
        self._password = _credential("the password", password)

    def _header(self) -> tuple[str, str, list[str]]:
        password = self._password.reveal()
        coded = base64.b64encode(f"{self._user}:{password}".encode()).decode()
        return "Authorization", f"Basic {coded}", [password, coded]


@dataclass(frozen=True)
class _Token:
    text: str
    good_until: float


class ClientCredentials(Auth):
    """OAuth2 client credentials (RFC 6749, 4.4): a token that is kept until 60 s before it lapses.

    After a 401 it is fetched anew, once. The token's address obeys the same rule about plain http as the endpoint's.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: Secret,
        *,
        scope: str | None = None,
        allow_insecure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_address(token_url)
        check_encrypted(token_url, allow_insecure=allow_insecure)
        self._url = token_url
        self._client_id = client_id
        self._secret = _credential("the client secret", client_secret)
        self._scope = scope
        self._clock = clock
        self._token: _Token | None = None
        self._shown: list[str] = []

    async def headers(self, post_form: PostForm) -> dict[str, str]:
        token = self._token
        if token is None or self._clock() >= token.good_until:
            token = self._token = await self._fetch(post_form)
        return {"Authorization": _sendable(f"Bearer {token.text}")}

    def renew(self, refused: Mapping[str, str]) -> bool:
        if self._token is not None and refused.get("Authorization") == f"Bearer {self._token.text}":
            self._token = None
        return True

    def secrets(self) -> list[str]:
        return self._shown

    async def _fetch(self, post_form: PostForm) -> _Token:
        secret = self._secret.reveal()
        coded = base64.b64encode(f"{quote(self._client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
        self._shown = [secret, coded, *self._shown][:8]
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        asked = self._clock()
        answer = await post_form(self._url, {"Authorization": f"Basic {coded}"}, urlencode(form).encode())
        token, seconds = self._read(answer)
        self._shown = [token, *self._shown]
        return _Token(token, asked + seconds - _EARLY_SECONDS)

    def _read(self, answer: Any) -> tuple[str, float]:
        said = answer if isinstance(answer, dict) else {}
        token, seconds = said.get("access_token"), said.get("expires_in", float("inf"))
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not isinstance(token, str) or not token or not number or str(said.get("token_type")).lower() != "bearer":
            raise EndpointContract(url=self._url, reason="expected access_token, token_type bearer and expires_in")
        return token, float(seconds)


def _credential(name: str, secret: Secret) -> Credential:
    if isinstance(secret, Credential):
        return secret
    found = credential(name, secret)
    assert found is not None  # noqa: S101 - one that is given is there
    return found


def _sendable(value: str) -> str:
    """Return what a header can carry. Raises EndpointAuth, without the value, for anything else."""
    if not value.isascii() or not value.isprintable():
        raise EndpointAuth(
            "The credentials have characters that a header cannot carry, such as a line end. Check them.",
            url="",
            reason="not printable ASCII",
        )
    return value
