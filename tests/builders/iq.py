"""IQ samples for tests, in the forms that requests carry."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray


def iq(seed: int = 0, n: int = 2048, receivers: int | None = None) -> NDArray[np.complex64]:
    """Return noise (n,), or (receivers, n)."""
    shape = (n,) if receivers is None else (receivers, n)
    generator = np.random.default_rng(seed)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


def as_lists(samples: NDArray[np.complex64], **members: Any) -> dict[str, Any]:
    """Return the request with `iq_data`."""
    pairs = np.stack([samples.real, samples.imag], axis=-1).astype(float)
    return {"iq_data": pairs.tolist(), **members}


def as_base64(samples: NDArray[np.complex64], **members: Any) -> dict[str, Any]:
    """Return the request with `iq_base64`."""
    text = base64.b64encode(samples.astype("<c8").tobytes()).decode()
    return {"iq_base64": text, "shape": list(samples.shape), **members}
