"""All settings, from environment variables `UQUEUE_*`.

`Settings.load()` is the one place that reads the environment. It names everything that is unknown or wrong at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from uqueue_config.plain_names import with_plain_names
from uqueue_config.sources import MLflowSource, parse_source, parse_versions_folder
from uqueue_config.tls import with_checks
from uqueue_config.variables import read_variables

PREFIX = "UQUEUE_"
LEARNING_PREFIX = "UQUEUE_LEARNING_"  # read, and checked likewise, by `uqueue_config.learning.settings`
NO_BUCKET = "localization models (engine = onnx) come from a folder or an MLflow registry, not from a bucket"


def _duration(value: Any) -> Any:
    """Read plain numbers as seconds; pydantic reads ISO 8601 (`PT30S`) itself."""
    try:
        return timedelta(seconds=float(value))
    except (TypeError, ValueError):
        return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("expected more than 0 seconds")
    return value


def _numbers(value: Any) -> Any:
    """Read `1.5` and `1.5, 2` as well as JSON lists."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return json.loads(text if text.startswith("[") else f"[{text}]")
    except ValueError:
        raise ValueError("expected numbers separated by commas") from None


def _words(value: Any) -> Any:
    """Read `a, b` as well as JSON lists of text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return json.loads(text) if text.startswith("[") else [word.strip() for word in text.split(",") if word.strip()]


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://")):
        raise ValueError("expected a redis:// or rediss:// URL")
    return SecretStr(with_checks(value.get_secret_value()))


def above_zero(value: tuple[float, ...]) -> tuple[float, ...]:
    """Return numbers that are all above 0 as they are. Raises ValueError."""
    if any(number <= 0 for number in value):
        raise ValueError("expected numbers above 0")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("expected an absolute path")
    return value


def checked_source(value: str) -> str:
    """Return the name of an artifact source (see `uqueue_config.sources`) as it is. Raises ValueError."""
    source = parse_source(value)
    if isinstance(source, MLflowSource) and source.kind == "none":
        raise ValueError("expected models:/name@alias, models:/name/Stage or models:/name/3")
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http:// or https:// URL")
    if "@" in parts.netloc:
        raise ValueError("expected a URL without user name and password")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
ForwardMode = Literal["dropout", "deterministic"]
Engine = Literal["auto", "fused", "numpy", "tensorflow", "torch", "onnx", "onnx-classifier"]
PerTarget = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_numbers)]


class Settings(BaseSettings):
    """What can be set. Durations are seconds or ISO 8601; secrets are masked wherever settings are shown."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    broker_url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Celery broker, a redis:// or rediss:// URL."
    )
    result_url: RedisUrl | None = Field(
        None, description="Redis that holds job records and results; the broker's unless set."
    )
    workspace_root: Path | None = Field(
        None, description="Folder with models/<model>/model.h5 and state/<model>/mccp_state.pkl, as the MLO writes it."
    )
    artifact_source: Annotated[str, AfterValidator(checked_source)] | None = Field(
        None,
        description="Where models come from: a folder like UQUEUE_WORKSPACE_ROOT, which it goes before; "
        "s3://bucket/prefix, with ?version=@alias or ?version=name unless the latest is wanted; or models:/name@alias, "
        "models:/name/Stage or models:/name/3 in an MLflow registry.",
    )
    models: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="TOML file that lists several models with their sources, canaries and shadows (docs/models.md); "
        "without it there is one, mccp-uq.",
    )
    model_memory_bytes: int | None = Field(
        None,
        ge=1,
        description='Size of all loaded model files above which a process unloads models with load = "on-demand" and '
        "pinned versions, the longest unused first; no limit unless set.",
    )
    s3_endpoint_url: HttpUrl | None = Field(
        None, description="Address of an S3-compatible store such as MinIO; Amazon's unless set."
    )
    s3_region: str | None = Field(None, description="Region of the bucket; as AWS tools find it unless set.")
    s3_access_key_id: str | None = Field(
        None, description="Access key for S3; without it credentials are looked for where AWS tools do."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Secret key for S3.")
    mlflow_tracking_url: HttpUrl | None = Field(
        None, description="Address of the MLflow server; its credentials are MLflow's own variables."
    )
    cache_max_bytes: int = Field(
        4 * 1024**3,
        ge=1024,
        description="Size above which workers drop artifacts from UQUEUE_CACHE_DIR, the longest unused first and never "
        "those being served.",
    )
    cache_dir: Path | None = Field(
        None,
        description="Where workers keep the last good artifacts; a per-user folder in the temporary folder unless set.",
    )
    forward_mode: ForwardMode = Field(
        "dropout", description="dropout: Monte Carlo dropout acts. deterministic: what Keras 3 `model.predict` gives."
    )
    engine: Engine = Field(
        "auto",
        description="What computes the passes; auto takes the first that can: fused (compiled), NumPy, TensorFlow or, "
        "for a model of its own, PyTorch. onnx: the model is one for localization (docs/localization.md); "
        "onnx-classifier: an ensemble classifier (docs/learning/models.md).",
    )
    onnx_providers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = Field(
        ("CPUExecutionProvider",),
        min_length=1,
        description="What ONNX Runtime runs localization models on, the best first; ONNXRUNTIME_PROVIDERS counts "
        "where this is not set.",
    )
    max_onnx_batch: int = Field(
        32, ge=1, le=4096, description="Most rows that a localization model evaluates in one run."
    )
    lane: Literal["on", "off"] = Field(
        "on",
        description="on: worker processes claim and answer many jobs at a time. off: each job is a Celery task, as it "
        "always is where UQUEUE_RESULT_URL names another Redis than the broker.",
    )
    stale_calibration: Literal["warn", "refuse"] = Field(
        "warn",
        description="What to do at start with a calibration older than its model: serve it with a warning, or refuse. "
        "A pair that already serves is never replaced by a stale one.",
    )
    target_scale: Annotated[PerTarget, AfterValidator(above_zero)] = Field(
        (), description="Multiplies each target (one number, or one per target, above 0)."
    )
    target_offset: PerTarget = Field((), description="Is added to each target after scaling.")
    target_unit: str | None = Field(None, description="The unit to report after scaling, such as kWh.")
    poll_seconds: Duration = Field(timedelta(seconds=10), description="How often beat looks for new artifacts.")
    max_rows: int = Field(100_000, ge=1, description="Most rows one job may have.")
    max_inline_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        description="Largest message a job may travel in; larger ones are refused, unless UQUEUE_PAYLOAD_DIR is set.",
    )
    payload_dir: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="Folder that clients and workers share; the features of a job that is too large for a message "
        "travel through it.",
    )
    max_payload_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Largest table of features that may travel through UQUEUE_PAYLOAD_DIR."
    )
    queue_limit: int = Field(
        200_000, ge=1, description="Most jobs that may wait in the queue; further ones are refused with QueueFull."
    )
    result_ttl_seconds: Duration = Field(timedelta(days=1), description="How long a result can be read.")
    record_ttl_seconds: Duration = Field(
        timedelta(days=7), description="How long a finished job is known (its state, not its result)."
    )
    soft_time_limit_seconds: Duration = Field(
        timedelta(seconds=120), description="A job that runs longer fails with JobTimeLimit."
    )
    time_limit_seconds: Duration = Field(
        timedelta(seconds=150), description="A job that still runs then has its worker process killed."
    )
    shutdown_seconds: Duration = Field(
        timedelta(seconds=20), description="How long a stopping worker waits for jobs before they go back to the queue."
    )
    max_attempts: int = Field(3, ge=1, description="How often a job may be started before it is given up.")
    concurrency: int | None = Field(None, ge=1, description="Worker processes; one per core unless set.")
    max_jobs_per_process: int | None = Field(
        None, ge=1, description="A worker process is replaced after this many jobs; never unless set."
    )
    model_load_seconds: Duration = Field(
        timedelta(seconds=120), description="How long a new worker process may take to load its model."
    )
    flower_user: str | None = Field(None, description="User name for Flower's basic authentication.")
    flower_password: SecretStr | None = Field(None, description="Password for Flower's basic authentication.")
    flower_address: str = Field("127.0.0.1", description="Address Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port Flower listens on.")
    api_keys_file: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="TOML file with the hashes of the gateway's API keys, as `uqueue gateway new-key` writes it; read "
        "again when it changes.",
    )
    gateway_auth: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the gateway wants API keys. auto: yes, unless it listens on a loopback address and "
        "UQUEUE_API_KEYS_FILE is not set.",
    )
    gateway_address: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: int = Field(8000, ge=0, le=65535, description="Port the gateway listens on.")
    gateway_max_body_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="Largest body of a request to the gateway."
    )
    gateway_body_seconds: Duration = Field(
        timedelta(seconds=10),
        description="How long the head of a request to the gateway may take to arrive, and its body.",
    )
    gateway_wait_seconds: Duration = Field(
        timedelta(seconds=30), description="The longest that a request to the gateway waits for a job."
    )
    gateway_max_requests: int = Field(
        2000, ge=1, description="Most requests that the gateway works on at a time; further ones are answered 503."
    )
    gateway_rate: float = Field(
        1000.0, gt=0, description="Requests per second for each API key, or each client address without keys."
    )
    gateway_burst: int = Field(2000, ge=1, description="Requests that one API key may send at once.")
    gateway_cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = Field(
        (), description="Origins of web pages that may call the gateway, separated by commas; none unless set."
    )
    localization_model: str | None = Field(
        None,
        description="The model that answers the gateway's localization routes; unless set, the only one of the catalog "
        "with engine = onnx.",
    )
    localization_result_seconds: Duration = Field(
        timedelta(seconds=8), description="How long a localization request waits for a worker; its job expires then."
    )
    localization_cache_seconds: Duration = Field(
        timedelta(seconds=3600), description="How long the outputs of a localization model are kept for equal inputs."
    )
    localization_cache_url: RedisUrl | None = Field(
        None, description="Redis that holds the cache of localization outputs; that of the records unless set."
    )
    localization_ellipse_level: float = Field(
        0.68, ge=0, lt=1, description="The probability that the ellipse and uncertainty_m of an answer stand for."
    )
    localization_ellipse_convention: Literal["joint", "marginal"] = Field(
        "joint", description="joint: the ellipse holds that level. marginal: each axis alone does, the ellipse less."
    )
    localization_confidence_radius_m: float = Field(
        50.0, gt=0, description="A derived confidence is the probability of lying within so many metres."
    )
    localization_frequency_mhz: float = Field(
        145.0, gt=0, description="The frequency that listings show where a request names none."
    )
    localization_min_samples: int = Field(2048, ge=2048, description="Fewest IQ samples per receiver.")
    localization_max_samples: int = Field(262_144, ge=2048, description="Most IQ samples per receiver.")
    localization_arm_failures: int = Field(
        5, ge=1, description="A version that failed so often in a row gets no requests until a trial succeeds."
    )
    localization_max_versions: int = Field(
        5, ge=1, description="Most versions of the localization model that may share the requests."
    )
    webhook_secrets: SecretStr | None = Field(
        None,
        description="Secrets that sign webhooks (whsec_…, separated by commas), as `uqueue gateway new-webhook-secret` "
        "makes them; every webhook is signed with each, so that receivers can change from one to the next.",
    )
    webhook_secrets_file: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None, description="File with such secrets, one a line; read again when it changes."
    )
    webhook_allow_http: Literal["on", "off"] = Field(
        "off", description="on: webhooks may go to http:// addresses too, where anybody on the way can read them."
    )
    webhook_allow_private: Literal["on", "off"] = Field(
        "off", description="on: webhooks may go to private, loopback and other addresses that are not of the internet."
    )
    webhook_tries: int = Field(8, ge=1, le=100, description="How often a webhook is tried before it is given up.")
    webhook_retry_seconds: Duration = Field(
        timedelta(seconds=5), description="Time to the second try of a webhook; each further one waits 4 times longer."
    )
    webhook_timeout_seconds: Duration = Field(
        timedelta(seconds=10), description="How long the receiver of a webhook may take to answer."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log level shown.")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or text for people.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Only what is passed in: `load` reads the environment, a constructor does not.
        return (init_settings,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.time_limit_seconds <= self.soft_time_limit_seconds:
            raise ValueError("time_limit_seconds: expected more than soft_time_limit_seconds")
        if self.record_ttl_seconds < self.result_ttl_seconds:
            raise ValueError("record_ttl_seconds: expected at least result_ttl_seconds")
        if (self.flower_user is None) != (self.flower_password is None):
            raise ValueError("flower_user and flower_password: set both or neither")
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key: set both or neither")
        if self.localization_max_samples < self.localization_min_samples:
            raise ValueError("localization_max_samples: expected at least localization_min_samples")
        if (self.artifact_source or "").startswith("models:/") and self.mlflow_tracking_url is None:
            raise ValueError("artifact_source names an MLflow registry: set mlflow_tracking_url")
        if self.engine == "onnx" and (self.artifact_source or "").startswith("s3:"):
            raise ValueError(f"artifact_source: {NO_BUCKET}")
        if self.engine == "onnx-classifier" and self.artifact_source is not None:
            parse_versions_folder(self.artifact_source)
        return self

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read `UQUEUE_*` from the environment (or the mapping given), and the plain names of `plain_names.py` where
        these say nothing; `overrides` win.

        Raises SettingsError naming every unknown and every wrong variable.
        """
        environ = with_plain_names(os.environ if environ is None else environ)
        given = {
            name: value
            for name, value in environ.items()
            if name.startswith(PREFIX) and not name.startswith(LEARNING_PREFIX)
        }
        return read_variables(cls, PREFIX, given, overrides)

    @property
    def broker(self) -> str:
        """The broker URL with its password: for connecting, never for showing."""
        return self.broker_url.get_secret_value()

    @property
    def result_store(self) -> str:
        """The URL of the Redis that holds records and results, with its password."""
        return self.result_url.get_secret_value() if self.result_url else self.broker

    @property
    def queue_is_with_records(self) -> bool:
        """Whether the queues are in the same Redis as the records, so that one script can change both."""
        return self.broker == self.result_store

    @property
    def lane_is_on(self) -> bool:
        return self.lane == "on" and self.queue_is_with_records

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process load equal settings."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {PREFIX + name.upper(): _to_text(value) for name, value in values.items() if value is not None}


def _to_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, timedelta):
        return repr(value.total_seconds())
    return json.dumps(value) if isinstance(value, tuple) else str(value)


def redact(url: str) -> str:
    """Return the URL without its password, for people and logs."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else url
