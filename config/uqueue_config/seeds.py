"""Where randomness starts: a seed per job, so that a retried or redelivered job gives the same answer."""

from __future__ import annotations

import hashlib

SEED_LIMIT = 1 << 63
_SEED_BITS = 53  # what a JSON reader in any language holds exactly


def seed_from_job_id(job_id: str) -> int:
    """Return the first 53 bits of sha256(job_id): 0 <= seed < 2**53."""
    digest = hashlib.sha256(job_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)
