"""Where a model comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from uqueue_worker.artifacts.pair import ArtifactPair


class ModelProvider(ABC):
    """Finds the newest artifacts of one model. Making one opens nothing; every method may be called from any thread."""

    name: str

    @abstractmethod
    def get_model_path(self) -> Path:
        """Return where the model file is on this machine, or will be. It need not exist yet."""

    @abstractmethod
    def get_state_path(self) -> Path:
        """Return where the calibration state is on this machine, or will be. It need not exist yet."""

    @abstractmethod
    def version(self) -> str:
        """Return the version of what `load` would return now, cheaply where nothing changed.

        Raises ModelNotAvailable where a file is missing, IncompleteArtifact where one is being written.
        """

    @abstractmethod
    def load(self) -> ArtifactPair:
        """Return both files as they are now, read so that neither changed in between.

        Raises ModelNotAvailable where a file is missing, IncompleteArtifact where one is empty or does not come to
        rest, ModelInvalid where one is not a readable file of a bounded size.
        """

    def placement(self, number: str | None) -> tuple[str, str | None]:
        """Return the stage of a registered version ("None" for none) and the alias that the source asks for."""
        return "None", None

    def fetch(self, version: str) -> ArtifactPair | None:
        """Return the pair of this version, None where the source no longer has it. Raises what `load` raises."""
        return self.load() if self.version() == version else None
