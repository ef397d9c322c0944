"""Where a model endpoint is and how it is spoken to."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from uqueue_config.learning.model_manifest import FolderName
from uqueue_config.learning.record import Record

DialectName = Literal["native", "native-evaluate", "tfserving", "oip_v2", "mlflow"]
_MIB = 1 << 20


class Endpoint(Record):
    """One model behind HTTP.

    base_url          what comes before /v1, /v2 or /invocations; plain http only to this machine
    version           evaluated where a call names none; None leaves it to the server
    allow_insecure    plain http to other machines, where a network of its own protects it
    ca_file           certificates (PEM) to trust instead of the system's
    client_*          certificate and key (PEM) to show the server
    read_seconds      for one whole answer
    deadline_seconds  for a whole evaluation, explanations included
    response_bytes    longest answer that is read
    preprocessed      send columns as the model file reads them (scaled as its manifest says), where the server runs
                      the bare file
    signature_name    tfserving: which signature, None for the server's default
    input_name        oip_v2: name of the input; mlflow: name of the tensor, None for a table of named columns
    output_name       tfserving, oip_v2, mlflow: which output holds probabilities, None where `members`,
                      `probabilities` or the only one is it
    """

    base_url: str
    model: FolderName
    dialect: DialectName = "native"
    version: FolderName | None = None
    allow_insecure: bool = False
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    connect_seconds: Annotated[float, Field(gt=0)] = 3.0
    read_seconds: Annotated[float, Field(gt=0)] = 30.0
    deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    backoff_seconds: Annotated[float, Field(gt=0)] = 0.5
    longest_backoff_seconds: Annotated[float, Field(gt=0)] = 10.0
    batch_rows: Annotated[int, Field(ge=1, le=256)] = 256
    batch_bytes: Annotated[int, Field(ge=1, le=4 * _MIB)] = 4 * _MIB
    concurrency: Annotated[int, Field(ge=1, le=32)] = 4
    response_bytes: Annotated[int, Field(ge=1)] = 16 * _MIB
    preprocessed: bool = False
    signature_name: str | None = None
    input_name: str | None = None
    output_name: str | None = None

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        check_address(url)
        return url.rstrip("/")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        check_encrypted(self.base_url, allow_insecure=self.allow_insecure)
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key: expected a client_certificate beside it")
        return self

    @property
    def target(self) -> str:
        """What its breaker and its metrics are called: host and port."""
        return f"endpoint:{urlsplit(self.base_url).netloc}"

    def tls(self) -> ssl.SSLContext:
        """Return what verifies the server and shows the client's certificate. Raises OSError for files of no use."""
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.client_certificate is not None:
            context.load_cert_chain(self.client_certificate, self.client_key)
        return context


def check_address(url: str) -> None:
    """Raise ValueError for what is no http or https address, or holds more than one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("expected an address such as https://models.example") from None
    if parts.scheme not in ("http", "https") or not host or any(one.isspace() or ord(one) < 33 for one in url):
        raise ValueError("expected an address such as https://models.example")
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected no user or password in the address; give them as auth")
    if parts.query or parts.fragment:
        raise ValueError("expected an address without ? and #")


def check_encrypted(url: str, *, allow_insecure: bool) -> None:
    """Raise ValueError for plain http to another machine, unless that is allowed."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not allow_insecure and not _is_loopback(parts.hostname or ""):
        raise ValueError("expected https: plain http goes to this machine only, unless allow_insecure is set")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
