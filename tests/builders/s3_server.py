"""A real S3 protocol server over HTTP, as a child process: moto, with bucket versioning and signature checks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from uqueue_worker.artifacts import S3Connection

START_SECONDS = 120.0
#: Nothing of whoever runs the tests is used: no credentials, no profile, no metadata service of a cloud.
NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": None,
    "AWS_SECRET_ACCESS_KEY": None,
    "AWS_SESSION_TOKEN": None,
    "AWS_PROFILE": None,
    "AWS_DEFAULT_REGION": None,
    "AWS_REGION": None,
    "AWS_ENDPOINT_URL": None,
    "AWS_ENDPOINT_URL_S3": None,
}


@dataclass(frozen=True)
class S3Server:
    """A running server, and an access key that it knows."""

    url: str
    access_key_id: str = "tester"
    secret_access_key: str = "secret-of-tester"

    def connection(self, url: str | None = None) -> S3Connection:
        """Return how to reach it, or the proxy in front of it at `url`."""
        return S3Connection(url or self.url, "us-east-1", self.access_key_id, SecretStr(self.secret_access_key))

    def environment(self, url: str | None = None) -> dict[str, str]:
        """Return the settings that name it."""
        return {
            "UQUEUE_S3_ENDPOINT_URL": url or self.url,
            "UQUEUE_S3_ACCESS_KEY_ID": self.access_key_id,
            "UQUEUE_S3_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def client(self, service: str = "s3") -> Any:
        """Return a boto3 client."""
        return _client(self, service)

    def make_bucket(self, name: str, *, versioned: bool = True) -> str:
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of the objects in a bucket, in order."""
        return [one["Key"] for one in self.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run a server with its log in `folder`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"{url}/moto-api/", process, folder / "s3.log")
        yield S3Server(url)
    finally:
        process.kill()
        process.wait()


@contextmanager
def checking_signatures(server: S3Server) -> Iterator[S3Server]:
    """Let the server refuse unknown keys and wrong signatures; the server that is returned has a key it knows."""
    iam = server.client("iam")
    user = f"reader-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=user)
    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(allowed))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    _check_from_now_on(server, 0)
    try:
        yield S3Server(server.url, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        _check_from_now_on(server, None)


def _check_from_now_on(server: S3Server, after: int | None) -> None:
    body = b"inf" if after is None else str(after).encode()
    kind = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{server.url}/moto-api/reset-auth", data=body, headers=kind, method="POST")
    with urllib.request.urlopen(request, timeout=10):
        pass


@lru_cache
def _client(server: S3Server, service: str) -> Any:
    import boto3

    return boto3.session.Session().client(
        service,
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return as soon as the URL answers; AssertionError with the log if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{url} does not answer:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.05)
