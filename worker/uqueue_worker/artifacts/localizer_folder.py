"""A localization model in a workspace folder: models/<name>/model.onnx and models/<name>/localization.json."""

from __future__ import annotations

from pathlib import Path

from uqueue_worker.artifacts.local import LocalFilesystemProvider, WatchedFile
from uqueue_worker.artifacts.pair import DECLARATION_FILE, ONNX_FILE


class LocalizerFolder(LocalFilesystemProvider):
    """Reads the files as `LocalFilesystemProvider` does. A declared sha256 refuses a model that came without its own
    declaration.
    """

    def get_state_path(self) -> Path:
        return self._root / "models" / self.name / DECLARATION_FILE

    def _model_paths(self) -> list[Path]:
        return [self._root / "models" / self.name / ONNX_FILE]

    def _look_at_checks(self) -> list[WatchedFile]:
        return []
