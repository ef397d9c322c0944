"""Which cycle of which run something is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uqueue_worker.learning.scenarios import jitter_seed

_DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class Cycle:
    """The run and cycle that samples are made for; without a run both are None.

    Everything random is drawn from streams seeded by (seed, number, spot id, index). `sigma` is the spread of
    variations, as a share of each parameter's range.
    """

    run_id: str | None = None
    number: int | None = None
    seed: int = 0
    sigma: float = _DEFAULT_SIGMA

    def stream(self, spot_id: str, index: int) -> int:
        """Return the seed of one of a spot's streams, 0 <= seed < 2**64."""
        return jitter_seed(self.seed, self.number or 0, spot_id, index)

    def metadata(self) -> dict[str, Any]:
        """Return what each sample says about the run that it was made for."""
        return {"alm_run_id": self.run_id, "alm_cycle": self.number}
