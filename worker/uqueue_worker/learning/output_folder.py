"""The folder that a command writes its results to, made before the work begins and not after it."""

from __future__ import annotations

import os
from pathlib import Path

from uqueue_config.errors import SettingsError


def output_folder(path: Path) -> Path:
    """Make the folder if it is not there, and return it. Raises SettingsError where nothing can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--output: {path} cannot be a folder: {error.strerror}. Name another one.") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError(f"--output: nothing may be written to {path}. Name another folder.")
    return path
