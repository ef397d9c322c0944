"""Which models a service holds: one, named by the settings, or several, named by the file UQUEUE_MODELS.

    [models.energy]
    source = "s3://models/team/a?version=@stable"
    target_unit = "kWh"

    [models.energy.canary]
    source = "s3://models/team/a?version=@canary"
    share = 0.1

Whatever an entry leaves out is as the settings say.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from uqueue_config.classification import ENGINE as CLASSIFIER
from uqueue_config.errors import SettingsError
from uqueue_config.messages import MODEL_NAME
from uqueue_config.names import DEFAULT_MODEL, canary_of, shadow_of
from uqueue_config.settings import NO_BUCKET, Engine, ForwardMode, Settings, above_zero, checked_source
from uqueue_config.sources import parse_versions_folder

MAX_FILE_BYTES = 1024 * 1024
_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
Source = Annotated[str, AfterValidator(checked_source)]


class _Canary(BaseModel):
    model_config = _STRICT

    source: Source
    share: float = Field(gt=0, lt=1)


class _Shadow(BaseModel):
    model_config = _STRICT

    source: Source


class _Entry(BaseModel):
    """One table of the file."""

    model_config = _STRICT

    source: Source | None = None
    forward_mode: ForwardMode | None = None
    engine: Engine | None = None
    target_scale: Annotated[tuple[float, ...], AfterValidator(above_zero)] | None = None
    target_offset: tuple[float, ...] | None = None
    target_unit: str | None = None
    nominal_coverage: float | None = Field(None, gt=0, lt=1)
    memory_limit_bytes: int | None = Field(None, ge=1)
    load: Literal["eager", "on-demand"] = "eager"
    canary: _Canary | None = None
    shadow: _Shadow | None = None


class _File(BaseModel):
    model_config = _STRICT

    models: dict[Annotated[str, Field(pattern=MODEL_NAME)], _Entry] = Field(min_length=1)


@dataclass(frozen=True)
class ModelSpec:
    """How one model is served.

    source              where its stable version comes from; None is UQUEUE_WORKSPACE_ROOT, or nothing
    nominal_coverage    a calibration for another one is refused; None takes what the calibration says
    memory_limit_bytes  a larger model file is refused
    on_demand           loaded by the first job that asks for it, and unloaded when others need the memory
    canary_source       where the version comes from that answers a `canary_share` of the jobs
    shadow_source       where the version comes from that answers every job of the stable one beside it, for comparison
    """

    name: str
    source: str | None
    forward_mode: ForwardMode
    engine: Engine
    target_scale: tuple[float, ...]
    target_offset: tuple[float, ...]
    target_unit: str | None
    nominal_coverage: float | None = None
    memory_limit_bytes: int | None = None
    on_demand: bool = False
    canary_source: str | None = None
    canary_share: float = 0.0
    shadow_source: str | None = None

    @classmethod
    def of(cls, settings: Settings, name: str = DEFAULT_MODEL) -> ModelSpec:
        """Return the model that the settings alone describe."""
        return cls(
            name=name,
            source=_source(settings, None, settings.engine),
            forward_mode=settings.forward_mode,
            engine=settings.engine,
            target_scale=settings.target_scale,
            target_offset=settings.target_offset,
            target_unit=settings.target_unit,
        )

    @property
    def tracks(self) -> Iterator[tuple[str, str | None]]:
        """Yield each track with its source: the stable one under the model's own name, `name@canary`, `name@shadow`."""
        yield self.name, self.source
        if self.canary_source is not None:
            yield canary_of(self.name), self.canary_source
        if self.shadow_source is not None:
            yield shadow_of(self.name), self.shadow_source

    def is_canary(self, sticky_key: str) -> bool:
        """Whether jobs with this key are answered by the canary: always the same ones, a share of all keys."""
        if not self.canary_share:
            return False
        digest = hashlib.sha256(f"{self.name}:{sticky_key}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.canary_share * 2.0**64


@dataclass(frozen=True)
class Catalog:
    """All models of a service, by name."""

    models: Mapping[str, ModelSpec]

    @classmethod
    def load(cls, settings: Settings) -> Catalog:
        """Return what the settings, or the file they name, describe. Raises SettingsError naming all problems."""
        if settings.models is None:
            return cls({DEFAULT_MODEL: ModelSpec.of(settings)})
        entries = _read(settings.models).models
        specs = {name: _spec(settings, name, entry) for name, entry in entries.items()}
        problems = [problem for spec in specs.values() for problem in _problems(spec, settings)]
        if problems:
            raise _unusable(settings.models, problems)
        return cls(specs)

    @property
    def tracks(self) -> tuple[str, ...]:
        return tuple(track for spec in self.models.values() for track, _ in spec.tracks)


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise _unusable(path, [f"it has more than {MAX_FILE_BYTES} bytes"])
        return _File.model_validate(tomllib.loads(data.decode()))
    except OSError as error:
        raise _unusable(path, [f"it cannot be read ({error.strerror})"]) from None
    except ValidationError as error:
        raise _unusable(path, [_wrong(item) for item in error.errors(include_url=False, include_input=False)]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unusable(path, [f"it is not TOML ({str(error)[:200]})"]) from None


def _wrong(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "extra_forbidden":
        return f"{place}: no such setting"
    return f"{place}: {str(item['msg']).removeprefix('Value error, ')}"


def _spec(settings: Settings, name: str, entry: _Entry) -> ModelSpec:
    def or_setting(member: str) -> Any:
        value = getattr(entry, member)
        return getattr(settings, member) if value is None else value

    shared = ("forward_mode", "engine", "target_scale", "target_offset", "target_unit")
    return ModelSpec(
        name=name,
        source=_source(settings, entry.source, entry.engine or settings.engine),
        **{member: or_setting(member) for member in shared},
        nominal_coverage=entry.nominal_coverage,
        memory_limit_bytes=entry.memory_limit_bytes,
        on_demand=entry.load == "on-demand",
        canary_source=entry.canary.source if entry.canary else None,
        canary_share=entry.canary.share if entry.canary else 0.0,
        shadow_source=entry.shadow.source if entry.shadow else None,
    )


def _source(settings: Settings, given: str | None, engine: Engine) -> str | None:
    """Return the source of an entry; a classifier's is always a text, to which the name of a version can be added."""
    source = given or settings.artifact_source
    if source is None and engine == CLASSIFIER and settings.workspace_root is not None:
        return str(settings.workspace_root)
    return source


def _problems(spec: ModelSpec, settings: Settings) -> Iterator[str]:
    if spec.engine == CLASSIFIER:
        yield from _classifier_problems(spec)
    if spec.engine == "onnx":
        yield from (f"models.{track}: {NO_BUCKET}" for track, source in spec.tracks if (source or "").startswith("s3:"))
        if spec.shadow_source is not None:
            yield f"models.{spec.name}.shadow: a localization model (engine = onnx) has none; use a canary"
    if settings.mlflow_tracking_url is None:
        for track, source in spec.tracks:
            if (source or "").startswith("models:/"):
                yield f"models.{track}: source names an MLflow registry: set UQUEUE_MLFLOW_TRACKING_URL"


def _classifier_problems(spec: ModelSpec) -> Iterator[str]:
    for track, source in spec.tracks:
        try:
            parse_versions_folder(source or "")
        except ValueError as error:
            yield f"models.{track}: {error}"
    if spec.shadow_source is not None:
        yield f"models.{spec.name}.shadow: a classifier (engine = {CLASSIFIER}) has none; use a canary"


def _unusable(path: Path, problems: list[str]) -> SettingsError:
    lines = "".join(f"\n  {problem}" for problem in sorted(problems))
    return SettingsError(f"The models in {path} (UQUEUE_MODELS) are not usable:{lines}", problems=sorted(problems))
