"""Assign photographs to arms by a salted hash: assignments never change, and a growing share only adds some."""

from __future__ import annotations

import hashlib

BUCKETS = 1 << 32


def assignment_bucket(salt: str, unit: str) -> int:
    """Bucket (0 <= bucket < BUCKETS) of a photograph's SHA-256 `unit` under a salt; equal on every machine."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode()).digest()[:4], "big")


def is_in_share(salt: str, unit: str, share: float) -> bool:
    """True when the candidate answers `unit` at this `share` (0-1).

    For a <= b the share b includes the share a.
    """
    return assignment_bucket(salt, unit) < round(share * BUCKETS)
