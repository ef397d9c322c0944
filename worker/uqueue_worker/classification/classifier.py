"""A loaded classifier: features in, class probabilities and their uncertainty out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from uqueue_config.classification import ENGINE, Classification
from uqueue_config.errors import ArtifactMismatch, InferenceFailed, InvalidFeatures, ModelInvalid, ModelOutputInvalid
from uqueue_config.features import validate_features
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_config.prediction import ModelIdentity
from uqueue_worker.artifacts.classifier_folder import read_manifest
from uqueue_worker.artifacts.ensemble_ports import EnsembleShape
from uqueue_worker.artifacts.onnx_probe import probe_ensemble
from uqueue_worker.artifacts.onnx_runtime import CPU
from uqueue_worker.artifacts.pair import ArtifactPair
from uqueue_worker.classification.session import EnsembleSession, OutputInvalid, RunFailed
from uqueue_worker.learning.models.features import scaled
from uqueue_worker.learning.models.predictions import Predictions

Float32 = NDArray[np.float32]


def load_classifier(pair: ArtifactPair, *, providers: tuple[str, ...] = CPU, threads: int = 1) -> Classifier:
    """Return the model that an ONNX file and its manifest make.

    The manifest is read first, the file's hash compared with the one it states, and the file checked and run by a
    process of its own before it is loaded and warmed up here. Raises ModelInvalid (InvalidDeclaration,
    ArtifactMismatch, UnsafeArtifact) with the reason.
    """
    if not pair.is_classifier:
        raise ModelInvalid(file=pair.model_filename, reason="a classifier is an ONNX file with a manifest.json")
    manifest, file = read_manifest(pair.state), pair.model_filename
    if manifest.sha256 != pair.model_file.sha256:
        raise ArtifactMismatch(file=file, what="sha256", found=pair.model_file.sha256, expected=manifest.sha256)
    shape = shape_of(manifest)
    probe_ensemble(pair.model, shape, file=file)
    session = EnsembleSession(pair.model, shape, file=file, providers=providers, threads=threads)
    return Classifier(pair.identity(ENGINE), manifest, session)


def shape_of(manifest: ModelManifest) -> EnsembleShape:
    """Return what a manifest says of the file's input and output."""
    return EnsembleShape(manifest.n_columns, manifest.uncertainty.members, len(manifest.classes))


@dataclass(frozen=True, eq=False)
class Classifier:
    """What a `ModelStore` holds for a classifier. Any number of threads may use one object."""

    identity: ModelIdentity
    manifest: ModelManifest
    session: EnsembleSession

    engine_name: ClassVar[str] = ENGINE
    forward_mode: ClassVar[None] = None
    stochastic: ClassVar[None] = None
    n_targets: ClassVar[None] = None
    #: Jobs of more rows run alone; of smaller ones so many rows are answered before any answer is stored.
    rows_together: ClassVar[int] = 1024

    @property
    def number(self) -> str:
        """The name of the version."""
        return self.manifest.version

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def n_features(self) -> int:
        return self.manifest.n_columns

    def check(self, features: Any, target_dim: int | None = None) -> Float32:
        """Return columns as float32 (rows, n_features). Raises InvalidFeatures where they do not fit the model."""
        if target_dim is not None:
            raise InvalidFeatures(reason=f"target_dim is {target_dim}, but a classifier has no targets")
        return validate_features(features, columns=self.n_features)

    def predict(
        self,
        features: Any,
        *,
        seed: int = 0,
        target_dim: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Classification:
        """Return the classes of features (rows, n_features), raw and imputed. `seed` is of no effect.

        Raises InvalidFeatures for features, or a `target_dim`, that do not fit; InferenceFailed where the runtime
        fails; ModelOutputInvalid where it answers what are no probabilities.
        """
        table = self.check(features, target_dim)
        try:
            columns = scaled(table, self.manifest)
            parts = [self._predictions(members) for members in self.session.run(columns, on_progress)]
        except RunFailed as error:
            raise InferenceFailed(model=self.identity.name, version=self.version, reason=str(error)) from error
        except OutputInvalid as error:
            raise ModelOutputInvalid(model=self.identity.name, version=self.version, reason=str(error)) from error
        return self._answer(parts[0] if len(parts) == 1 else Predictions.joined(parts))

    def predict_together(
        self, table: Float32, lengths: Sequence[int], *, on_progress: Callable[[int], None] | None = None
    ) -> list[Classification | ModelOutputInvalid]:
        """Return the answer to each of several checked tables, one after the other in `table`.

        Each is run by itself, so that its answer has the same bytes in any company. An answer that cannot be is that
        table's alone. Raises InferenceFailed.
        """
        answers: list[Classification | ModelOutputInvalid] = []
        first = 0
        for length in lengths:
            if first and on_progress is not None:
                on_progress(first)
            try:
                answers.append(self.predict(table[first : first + length]))
            except ModelOutputInvalid as error:
                answers.append(error)
            first += length
        return answers

    def _predictions(self, members: Float32) -> Predictions:
        manifest = self.manifest
        return Predictions.from_members(
            members, manifest.classes, model_version=manifest.version, uncertainty_method=manifest.uncertainty.text
        )

    def _answer(self, found: Predictions) -> Classification:
        if found.probabilities is None or found.total is None:
            raise ValueError("members give probabilities and a total uncertainty")
        return Classification(
            classes=found.classes,
            probabilities=found.probabilities,
            total=found.total,
            epistemic=found.epistemic,
            aleatoric=found.aleatoric,
            disagreement=found.disagreement,
            method=found.uncertainty_method,
            model=self.identity,
            model_version=found.model_version,
        )
