"""A loaded localization model: features in, positions with their uncertainty out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import structlog

from uqueue_config.errors import (
    ArtifactMismatch,
    InferenceFailed,
    InvalidFeatures,
    ModelInvalid,
    ModelOutputInvalid,
)
from uqueue_config.features import validate_features
from uqueue_config.localization import Declaration, Localization, ModelCard
from uqueue_config.prediction import ModelIdentity
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.artifacts.onnx_probe import probe_onnx
from uqueue_worker.artifacts.pair import ONNX_FILE, ArtifactPair
from uqueue_worker.localization.decoding import Decoded, decode
from uqueue_worker.localization.session import MAX_BATCH, Float32, OnnxOptions, OnnxSession, RunFailed

ENGINE = "onnx"
_log = structlog.get_logger("uqueue.models")


def load_localizer(pair: ArtifactPair, options: OnnxOptions | None = None) -> Localizer:
    """Return the model that an ONNX file and its declaration make.

    The declaration is read first, the file's hash compared with the declared one, and the file checked and run by a
    process of its own before it is loaded and warmed up here. Members that were not declared are named in one warning.
    Raises ModelInvalid (InvalidDeclaration, ArtifactMismatch, UnsafeArtifact) with the reason.
    """
    if pair.model_filename != ONNX_FILE:
        raise ModelInvalid(file=pair.model_filename, reason=f"a localization model is a file {ONNX_FILE}")
    options = options or OnnxOptions()
    about = DeclarationFile.parse(pair.state)
    declaration, file = about.declared(), pair.model_filename
    if declaration.sha256 is not None and declaration.sha256 != pair.model_file.sha256:
        raise ArtifactMismatch(file=file, what="sha256", found=pair.model_file.sha256, expected=declaration.sha256)
    row = declaration.input_shape
    probe_onnx(pair.model, row, file=file)
    model = Localizer(pair.identity(ENGINE), about, declaration, OnnxSession(pair.model, row, options, file=file))
    _warn(model)
    return model


@dataclass(frozen=True, eq=False)
class Localizer:
    """What a `ModelStore` holds for a localization model. Any number of threads may use one object.

    number  of the registered version, None where there is no registry
    """

    identity: ModelIdentity
    about: DeclarationFile
    declaration: Declaration
    session: OnnxSession

    engine_name: ClassVar[str] = ENGINE
    forward_mode: ClassVar[None] = None
    stochastic: ClassVar[None] = None
    n_targets: ClassVar[None] = None

    @property
    def number(self) -> str | None:
        return self.about.number

    @property
    def version(self) -> str:
        """The registered version; the content's 16 characters where there is no registry."""
        return self.number or self.identity.version

    @property
    def n_features(self) -> int:
        return int(np.prod(self.declaration.input_shape))

    @property
    def rows_together(self) -> int:
        """Jobs of more rows run alone."""
        return MAX_BATCH

    @property
    def states_sigmas(self) -> bool:
        return self.session.ports.sigma is not None

    def check(self, features: Any, target_dim: int | None = None) -> Float32:
        """Return features as float32 (rows, n_features). Raises InvalidFeatures where they do not fit the model."""
        if target_dim is not None:
            raise InvalidFeatures(reason=f"target_dim is {target_dim}, but a localization model has no targets")
        return validate_features(features, columns=self.n_features)

    def predict(
        self,
        features: Any,
        *,
        seed: int = 0,
        target_dim: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Localization:
        """Return where the emitters of features (rows, n_features) are. `seed` is of no effect.

        Raises InvalidFeatures for features, or a `target_dim`, that do not fit; InferenceFailed where the runtime
        fails; ModelOutputInvalid where any row's answer cannot be.
        """
        table = self.check(features, target_dim)
        found = self.predict_together(table, [len(table)], on_progress=on_progress)[0]
        if isinstance(found, ModelOutputInvalid):
            raise found
        return found

    def predict_together(
        self, table: Float32, lengths: Sequence[int], *, on_progress: Callable[[int], None] | None = None
    ) -> list[Localization | ModelOutputInvalid]:
        """Return the answer to each of several checked tables, one after the other in `table`, run as one.

        An answer that cannot be is that table's alone. Raises InferenceFailed.
        """
        try:
            raw, seconds = self.session.run(table, on_progress)
        except RunFailed as error:
            raise InferenceFailed(model=self.identity.name, version=self.version, reason=str(error)) from error
        decoded = decode(raw, self.declaration)
        answers, first = [], 0
        for length in lengths:
            answers.append(self._answer(decoded, first, first + length, seconds))
            first += length
        return answers

    def card(self, stage: str = "None", alias: str | None = None) -> ModelCard:
        """Return what gateways are told of this model."""
        about = self.about
        return ModelCard(
            name=self.identity.name,
            version=self.version,
            content=self.identity.version,
            sha256=self.identity.sha256,
            stage=stage,
            alias=alias,
            created_at=about.created_at,
            run_id=about.run_id,
            accuracy_meters=about.accuracy_meters,
            training_samples=about.training_samples,
            declaration=self.declaration,
        )

    def _answer(self, decoded: Decoded, begin: int, end: int, seconds: float) -> Localization | ModelOutputInvalid:
        for row, problem in enumerate(decoded.problems[begin:end]):
            if problem:
                reason = f"{problem} (row {row})"
                return ModelOutputInvalid(model=self.identity.name, version=self.version, reason=reason, row=row)
        rows = slice(begin, end)
        return Localization(
            latitude=decoded.latitude[rows],
            longitude=decoded.longitude[rows],
            sigma_x=decoded.sigma_x[rows],
            sigma_y=decoded.sigma_y[rows],
            theta=decoded.theta[rows],
            confidence=None if decoded.confidence is None else decoded.confidence[rows],
            uncertainty_source="model" if self.states_sigmas else "absent",
            model=self.identity,
            model_version=self.version,
            onnx_seconds=round(seconds, 6),
        )


def _warn(model: Localizer) -> None:
    known = {"model": model.identity.name, "model_version": model.version}
    if model.declaration.defaulted:
        defaults = {name: getattr(model.declaration, name) for name in model.declaration.defaulted}
        _log.warning("declaration_defaults", **known, defaults=defaults)
    if not model.states_sigmas:
        _log.warning("no_uncertainty_output", **known, reason="the model states no uncertainty; sigmas are 0")
