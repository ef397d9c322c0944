"""Whether buckets and registries give what they should: `python -m uqueue_worker.source_check`, for `uqueue doctor`.

Each source that the settings name is read as a worker reads it, but past the cache: address, credentials, manifest,
files and hashes. Prints a JSON list on stdout, per track its `source` and either `version`, or `code` and `message` of
what is wrong; the code `not_installed` means that it could not be looked at from here. Folders are left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uqueue_config.catalog import Catalog
from uqueue_config.errors import SettingsError, UqueueError
from uqueue_config.settings import Settings
from uqueue_config.sources import FolderSource, MLflowSource, parse_source

NOT_INSTALLED = "not_installed"


def look(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield what `main` prints. Raises SettingsError where UQUEUE_MODELS names no usable file."""
    for spec in Catalog.load(settings).models.values():
        for track, source in spec.tracks:
            if source is not None and not isinstance(parse_source(source), FolderSource):
                here = settings.model_copy(update={"artifact_source": source, "engine": spec.engine})
                yield {"track": track, "source": source, **_found(here, spec.name, source)}


def _found(settings: Settings, name: str, source: str) -> dict[str, str]:
    module, extra = ("mlflow", "mlflow") if isinstance(parse_source(source), MLflowSource) else ("boto3", "s3")
    if importlib.util.find_spec(module) is None:
        message = f'{module} is not installed here: pip install "uqueue[worker,{extra}]"'
        return {"code": NOT_INSTALLED, "message": message}
    from uqueue_worker.artifacts import ArtifactCache, open_provider

    with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
        provider = open_provider(settings, name, ArtifactCache(Path(folder), source=source))
        try:
            return {"version": provider.version() if provider else ""}
        except UqueueError as error:
            return {"code": error.code, "message": error.message}


def main() -> int:
    """Print what was found; return 0, or 2 where the settings are not usable."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where logs go meanwhile
            found = list(look(Settings.load()))
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    except ImportError as error:
        found = [
            {"code": NOT_INSTALLED, "message": f'{error.name} is not installed here: pip install "uqueue[worker]"'}
        ]
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
