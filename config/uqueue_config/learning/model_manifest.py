"""The manifest of a classifier's version: `<root>/<model>/<version>/manifest.json`, beside the model file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, field_validator, model_validator

from uqueue_config.learning.feature_path import Reducer, parse_feature_path
from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.record import Record
from uqueue_config.learning.references import Fingerprint, Sha256
from uqueue_config.learning.values import Count, Identifier, JsonValue, Number, Score

MANIFEST_FILE = "manifest.json"
ALIASES_FILE = "aliases.json"
#: `in_process` is a function of a program, such as a test; it has no file.
Format = Literal["onnx", "keras", "h5", "skops", "joblib", "pickle", "in_process"]
Method = Literal["ensemble", "mc_dropout", "single_model"]
#: Models, versions and aliases are names of folders: no separators, no leading dot.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"
FolderName = Annotated[str, Field(pattern=NAME_PATTERN)]
FileName = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(onnx|keras|h5|skops|joblib|pkl)|in_process)$")
]


class InvalidManifest(ValueError):
    """A manifest that cannot be used; the message names everything that is wrong."""


class Feature(Record):
    """One feature, in the order of the model's columns.

    path       canonical and without its reducer, which stands in `reducer`
    impute     what stands in where a sample lacks the feature
    mean, std  over the training data, in the feature's unit
    median     over the training data: the reference of explanations; `impute` where it is not given
    indicator  whether one more column says 1 where the feature is missing; these columns follow all features
    """

    path: Identifier
    reducer: Reducer | None = None
    unit: str | None = None
    impute: Number = 0.0
    mean: Number = 0.0
    std: Annotated[Number, Field(ge=0)] = 1.0
    median: Number | None = None
    indicator: bool = False

    @model_validator(mode="before")
    @classmethod
    def _reducer_apart(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("path"), str):
            return values
        path = parse_feature_path(values["path"])
        body, reducer = str(path).partition("|")[0], values.get("reducer")
        if path.reducer is not None and reducer not in (None, path.reducer):
            raise ValueError(f"path: its reducer {path.reducer} is not the {reducer} given beside it")
        return {**values, "path": body, "reducer": reducer or path.reducer}

    @property
    def name(self) -> str:
        """The whole feature path, with its reducer."""
        return f"{self.path}|{self.reducer}" if self.reducer else self.path

    @property
    def reference(self) -> float:
        return self.impute if self.median is None else self.median


class Preprocessing(Record):
    """What whoever runs the model file does to the columns first: `standard` is (x - mean) / std of each feature."""

    scaling: Literal["none", "standard"] = "none"


class UncertaintyDeclaration(Record):
    """Where the model's uncertainty comes from.

    members      trees, networks or passes; 1 for a single model
    conformal_q  quantile of 1 - p(true class) on calibration data: classes with 1 - p <= q are the conformal set
    """

    method: Method = "single_model"
    members: Annotated[int, Field(ge=1)] = 1
    conformal_q: Score | None = None

    @model_validator(mode="after")
    def _single_has_one(self) -> Self:
        if (self.method == "single_model") != (self.members == 1):
            raise ValueError("members: expected 1 for a single model, and more for an ensemble or Monte Carlo dropout")
        return self

    @property
    def text(self) -> str:
        """As feedback names it: `ensemble:120`, `mc_dropout:30`, `single_model`."""
        return self.method if self.method == "single_model" else f"{self.method}:{self.members}"


class TrainingData(Record):
    """A data set that the model was trained on, by content."""

    fingerprint: Fingerprint
    n: Count
    name: str | None = None


class ModelManifest(Record):
    """What a model file is, which features it reads and which classes its columns stand for.

    sha256    of the file in hexadecimal; another file under its name is refused
    classes   in the order of the model's columns
    metrics   as measured when the version was made; for people
    training  hyper-parameters, seed, package versions; for people
    """

    schema_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = "1.0"
    model: FolderName
    version: FolderName
    format: Format
    file: FileName
    sha256: Sha256
    created: AwareDatetime
    classes: Annotated[tuple[Identifier, ...], Field(min_length=2, max_length=1000)]
    feature_spec: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=10_000)]
    preprocessing: Preprocessing = Preprocessing()
    uncertainty: UncertaintyDeclaration = UncertaintyDeclaration()
    metrics: dict[str, Number] = Field(default_factory=dict)
    training_data: tuple[TrainingData, ...] = ()
    training: dict[str, JsonValue] = Field(default_factory=dict)
    parent_version: FolderName | None = None

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """Return the manifest that this JSON holds. Raises InvalidManifest naming every problem with its path."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidManifest(problems_of(error)) from None

    @field_validator("classes")
    @classmethod
    def _each_class_once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise ValueError("expected every class once")
        return classes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.feature_spec]
        if len(set(names)) != len(names):
            raise ValueError("feature_spec: expected every feature once")
        ending = {"pickle": ".pkl", "in_process": "in_process"}.get(self.format, f".{self.format}")
        if not self.file.endswith(ending):
            raise ValueError(f"file: expected a name that ends with {ending} for the format {self.format}")
        return self

    @property
    def n_columns(self) -> int:
        """How many columns the model reads: one of each feature, then those of the indicators."""
        return len(self.feature_spec) + sum(feature.indicator for feature in self.feature_spec)

    @property
    def reference(self) -> str:
        """The version as feedback names it: `airguard-rf@7`."""
        return f"{self.model}@{self.version}"

    @property
    def feature_spec_fingerprint(self) -> str:
        return feature_spec_fingerprint(self.feature_spec)

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


def feature_spec_fingerprint(features: tuple[Feature, ...]) -> str:
    """Return the first 16 hexadecimal digits of SHA-256 of the features' canonical JSON."""
    listed = [feature.model_dump(mode="json") for feature in features]
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
