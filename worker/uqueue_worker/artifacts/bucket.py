"""Objects in an S3 bucket: bounded waits, and the one place that translates S3's errors."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydantic import SecretStr

from uqueue_config.errors import (
    ArtifactMismatch,
    IncompleteArtifact,
    ModelInvalid,
    SourceClockSkew,
    SourceDenied,
    SourceError,
    SourceNotFound,
    SourceUnreachable,
)
from uqueue_config.settings import Settings

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
ATTEMPTS: Final = 2
_CHUNK_BYTES: Final = 1024 * 1024
_NOT_MODIFIED: Final = {"304", "NotModified"}
_NO_OBJECT: Final = {"NoSuchKey", "NoSuchVersion", "MethodNotAllowed"}
_EXISTS: Final = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_DENIED: Final = {
    *("AccessDenied", "AllAccessDisabled", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "InvalidToken"),
    *("SignatureDoesNotMatch", "TokenRefreshRequired", "401", "403"),
}
_ELSEWHERE: Final = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
_BUSY: Final = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
_CREDENTIALS: Final = (
    "UQUEUE_S3_ACCESS_KEY_ID and UQUEUE_S3_SECRET_ACCESS_KEY, or where AWS tools find credentials, and what they permit"
)


class NotModified(Exception):
    """The object is as it was."""


class NoSuchObject(Exception):
    """There is no object with this key, or it no longer has this version."""


class ObjectExists(Exception):
    """There is an object with this key already."""


@dataclass(frozen=True)
class S3Connection:
    """How a store is reached; what is None is found where AWS tools find it."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None

    @classmethod
    def of(cls, settings: Settings) -> S3Connection:
        return cls(
            settings.s3_endpoint_url, settings.s3_region, settings.s3_access_key_id, settings.s3_secret_access_key
        )


@dataclass(frozen=True)
class StoredObject:
    """An object's content, and what the store calls this state of it. `version_id` is None in unversioned buckets."""

    data: bytes
    etag: str
    version_id: str | None


class Bucket:
    """One bucket of a store. Nothing is opened before the first request; any thread may use it."""

    def __init__(self, name: str, connection: S3Connection) -> None:
        self.name = name
        self._connection = connection

    @property
    def address(self) -> str:
        return f"s3://{self.name} at {self._connection.endpoint_url or 'Amazon S3'}"

    def url(self, key: str) -> str:
        """Return what errors call an object."""
        return f"s3://{self.name}/{key}"

    def get(
        self,
        key: str,
        *,
        limit_bytes: int,
        version_id: str | None = None,
        etag: str | None = None,
        unless_etag: str | None = None,
    ) -> StoredObject:
        """Return an object, or one version of it.

        Raises NoSuchObject, NotModified where its ETag is still `unless_etag`, ArtifactMismatch where it is not `etag`,
        IncompleteArtifact where the connection ends early, ModelInvalid above `limit_bytes`, and SourceError.
        """
        wanted = {"VersionId": version_id, "IfNoneMatch": unless_etag}
        given = {name: value for name, value in wanted.items() if value is not None}
        with self._translated():
            response = self._client.get_object(Bucket=self.name, Key=key, **given)
        with response["Body"] as body:
            found = response.get("ETag", "")
            if not found:
                raise SourceError(
                    source=self.address, reason="what answers there is no S3 store; check UQUEUE_S3_ENDPOINT_URL"
                )
            if etag is not None and found.strip('"') != etag.strip('"'):
                raise ArtifactMismatch(file=self.url(key), what="ETag", found=found, expected=etag)
            data = self._read(body, response.get("ContentLength"), limit_bytes, self.url(key))
        return StoredObject(data, found, response.get("VersionId"))

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> StoredObject:
        """Write an object. Raises ObjectExists where it exists and `only_new` is set, and SourceError."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        given = {"IfNoneMatch": "*"} if only_new else {}
        with self._translated():
            response = self._client.put_object(Bucket=self.name, Key=key, Body=data, ChecksumSHA256=checksum, **given)
        return StoredObject(data, response["ETag"], response.get("VersionId"))

    def copy(self, source: str, key: str, *, version_id: str | None, etag: str | None) -> StoredObject:
        """Write an object that is in this bucket under another key as well; the data stay there and are not returned.

        Raises NoSuchObject where the source is gone, ObjectExists where its ETag is another, and SourceError.
        """
        pinned = {"VersionId": version_id} if version_id else {}
        given = {"CopySourceIfMatch": etag} if etag else {}
        with self._translated():
            response = self._client.copy_object(
                Bucket=self.name, Key=key, CopySource={"Bucket": self.name, "Key": source, **pinned}, **given
            )
        return StoredObject(b"", response["CopyObjectResult"]["ETag"], response.get("VersionId"))

    @property
    def _client(self) -> Any:
        try:
            return _client(self._connection, os.getpid())
        except ImportError as error:
            reason = 'boto3 is not installed here: pip install "uqueue[s3]"'
            raise SourceError(source=self.address, reason=reason) from error

    def _read(self, body: Any, size_bytes: int | None, limit_bytes: int, file: str) -> bytes:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        data = bytearray()
        try:
            while len(data) <= limit_bytes and (chunk := body.read(_CHUNK_BYTES)):
                data += chunk
        except (BotoCoreError, HTTPError, OSError) as error:
            cut: Exception | None = error
        else:
            cut = None
        if len(data) > limit_bytes:
            raise ModelInvalid(file=file, reason=f"it has {size_bytes} bytes; at most {limit_bytes} are read")
        if cut is not None or len(data) < (size_bytes or 0):
            reason = f"the connection ended after {len(data)} of {size_bytes} bytes"
            raise IncompleteArtifact(file=file, reason=reason) from cut
        return bytes(data)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        self._client  # noqa: B018 - says what to install where botocore is not
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            CredentialRetrievalError,
            HTTPClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )

        try:
            yield
        except ClientError as error:
            raise self._answered(error) from error
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise SourceDenied(source=self.address, reason=_sentence(error), check=_CREDENTIALS) from error
        except (HTTPClientError, ConnectionError) as error:
            check = "UQUEUE_S3_ENDPOINT_URL"
            raise SourceUnreachable(source=self.address, reason=_sentence(error), check=check) from error
        except BotoCoreError as error:
            raise SourceError(source=self.address, reason=_sentence(error)) from error

    def _answered(self, error: Any) -> Exception:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = _code(error) or str(status)
        reason = f"{code}: {_sentence(error.response.get('Error', {}).get('Message') or 'no more was said')}"
        check = "the bucket's name in UQUEUE_ARTIFACT_SOURCE, and UQUEUE_S3_ENDPOINT_URL"
        if code in _NOT_MODIFIED:
            return NotModified(code)
        if code in _NO_OBJECT:
            return NoSuchObject(code)
        if code in _EXISTS:
            return ObjectExists(code)
        if code == "RequestTimeTooSkewed":
            return SourceClockSkew(source=self.address, reason=reason)
        if code == "NoSuchBucket":
            return SourceNotFound(source=self.address, reason=reason, check=check)
        if code in _ELSEWHERE:
            reason = f"{reason} (the bucket is in another region; set UQUEUE_S3_REGION)"
            return SourceError(source=self.address, reason=reason)
        if code in _DENIED:
            return SourceDenied(source=self.address, reason=reason, check=_CREDENTIALS)
        if code in _BUSY or status >= 500:
            return SourceUnreachable(source=self.address, reason=reason, check="the store's own state")
        if code == "404":
            reason = f"{reason}, without S3's own words; UQUEUE_S3_ENDPOINT_URL may be that of another service"
        return SourceError(source=self.address, reason=reason)


@lru_cache(maxsize=16)
def _client(given: S3Connection, process: int) -> Any:
    """Return this process's client for a store: making one takes 0.2 s, and any thread may use it."""
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        s3={"addressing_style": "path" if given.endpoint_url else "auto"},
        # Other stores than Amazon's do not all know the checksums that boto3 adds and asks for by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.client(
        "s3",
        endpoint_url=given.endpoint_url,
        region_name=given.region or session.region_name or "us-east-1",
        aws_access_key_id=given.access_key_id,
        aws_secret_access_key=given.secret_access_key.get_secret_value() if given.secret_access_key else None,
        config=config,
    )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _sentence(error: object) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
