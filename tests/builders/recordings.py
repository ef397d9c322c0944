"""SigMF recordings as files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def write_recording(
    folder: Path, name: str = "heard", *, samples: int = 16_384, channels: int = 3, seed: int = 0, **about: Any
) -> Path:
    """Write noise as cf32_le with its hash, and return the metadata's path.

    `about` are members of core: in global, of which None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).standard_normal((samples, channels, 2)).astype("<f4")
    data = noise.tobytes()
    whole = {
        "datatype": "cf32_le",
        "version": "1.2.0",
        "sample_rate": 192_000,
        "num_channels": channels,
        "sha512": hashlib.sha512(data).hexdigest(),
        **about,
    }
    captures = [{"core:sample_start": whole.get("offset", 0), "core:frequency": 121.5e6}]
    about_all = {f"core:{member}": value for member, value in whole.items() if value is not None}
    (folder / f"{name}.sigmf-data").write_bytes(data)
    path = folder / f"{name}.sigmf-meta"
    path.write_text(json.dumps({"global": about_all, "captures": captures, "annotations": []}))
    return path
