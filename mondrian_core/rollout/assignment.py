"""Which arm a photograph belongs to: a salted hash; it stays there, and a growing share only adds photographs."""

from __future__ import annotations

import hashlib

BUCKETS = 1 << 32


def assignment_bucket(salt: str, unit: str) -> int:
    """0 <= bucket < BUCKETS, the same for a unit under a salt on any machine. `unit` is a photograph's SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode()).digest()[:4], "big")


def is_in_share(salt: str, unit: str, share: float) -> bool:
    """True when `unit` is among the `share` (0..1) that gets the candidate.

    For a <= b everybody in the share a is in the share b.
    """
    return assignment_bucket(salt, unit) < round(share * BUCKETS)
